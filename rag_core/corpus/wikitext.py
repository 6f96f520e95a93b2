"""MediaWiki markup to plain text.

What stays: paragraphs, the shown text of links and of inline tags, list items without their bullets,
headings (as lines of their own, dropped where nothing but headings follows below them), each on its own
line. What goes: templates, tables, references, comments, files, categories, interlanguage links, magic
words, and tags whose content is no prose (mathematics, galleries, code listings and the like).

Templates, tables and comments are cut out first by regular expressions, innermost first; they are most
of a dump's markup, and parsing them into trees only to throw those away costs most of the time. The
rest, where structure matters, goes through mwparserfromhell.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

import mwparserfromhell
from mwparserfromhell import nodes
from mwparserfromhell.wikicode import Wikicode

from rag_core.corpus.rows import BadRecord
from rag_core.records import RejectReason

# English names and the canonical ones, which every wiki understands beside its own
MEDIA_NAMESPACES = frozenset({"file", "image", "media", "category"})

_MAX_NESTING = 40  # templates inside templates; MediaWiki's own limit
# The parser's time grows with the square of the markup that is opened and never closed. Real pages have
# a few dozen of these at most; what has more is not parsed.
_MAX_UNCLOSED = 500
# From each of these on it may parse the rest again, so marks times what is not closed is what parsing costs:
# a million take a minute and some 300 MB. The longest list pages have some 100,000 marks and close nearly all.
_MAX_WORK = 1_000_000
_MARKS = "[]{}<&=:"  # which begin or end what becomes a node

_DROPPED_TAGS = (
    "ref|references|math|chem|ce|gallery|timeline|imagemap|graph|score|hiero|mapframe|maplink|"
    "templatedata|syntaxhighlight|source|table|style|script|includeonly|indicator|categorytree|inputbox"
)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_SELF_CLOSED = re.compile(rf"<(?:{_DROPPED_TAGS})\b[^<>]*/>", re.IGNORECASE)
_DROPPED = re.compile(
    rf"<({_DROPPED_TAGS})\b[^<>]*>(?:(?!<(?:{_DROPPED_TAGS})\b).)*?</\1\s*>", re.IGNORECASE | re.DOTALL
)
_ARGUMENT = re.compile(r"\{\{\{[^{}]*+\}\}\}")
_TEMPLATE = re.compile(r"\{\{[^{}]*+(?:(?:\{[^{}]*+\}|\{(?!\{)|\}(?!\}))[^{}]*+)*+\}\}")
_TABLE_LINE = re.compile(r"[\s:*#;]*(\{\||\|\})")
_LIST_MARKS = re.compile(r"^[*#:;][*#:; \t]*", re.MULTILINE)
_OPENING = re.compile(r"([\[\]{}])|<(/?)([a-zA-Z]+)([^<>]*>)?")
_OPENED_BY = {"]": "[", "}": "{"}
_UNPAIRED_TAGS = frozenset({"br", "hr", "wbr", "li", "dt", "dd", "td", "th", "tr", "nowiki", "section"})

_STYLE = re.compile(r"'{2,5}")
# begins with a literal, which is found many times faster than a place where a condition holds
_MAGIC_WORD = re.compile(r"__(?<![^\W_]__)[^\W\d_]+__(?![^\W_])")
_LEFT_OVER = re.compile(r"</?[a-zA-Z][^<>\n]*>|\{\{+|\}\}+|\[\[+|\]\]+")
_LEFT_OVER_LINE = re.compile(r"\{\||\|")  # of a table that is not closed
_INTERLANGUAGE = re.compile(r"(?:[a-z]{2,3}(?:-[a-z]+)*|simple)\s*:")
_EMPTY_BRACKETS = re.compile(r"\([\s,;:]*+\)")  # what templates leave behind
_BRACKET_COMMA = re.compile(r"\((?=\s*[,;])[\s,;]*+")
_WORD = re.compile(r"\w")
_HEADING_MARK = "\x01"  # once a level at the start of a heading's line; XML cannot hold this character

_BLOCK_TAGS = frozenset(
    {"br", "p", "div", "li", "dt", "dd", "blockquote", "poem", "hr", "pre", "td", "th", "tr", "center"}
)


def plain_text(markup: str, namespaces: Collection[str] = MEDIA_NAMESPACES) -> str:
    """The text that a reader of the page would read, in lines.

    Args:
      markup: a page's wikitext.
      namespaces: lower-case namespaces whose links show a picture or nothing (files, categories).

    Raises:
      BadRecord: `bad_field`, for markup nested or left open too deep to parse.
    """
    reduced = _without_tables(_without_templates(_without_tags(_COMMENT.sub("", markup))))
    reduced = _LIST_MARKS.sub("", reduced)
    _check_parsable(reduced)
    try:
        code = mwparserfromhell.parse(reduced, skip_style_tags=True)
        text = "".join(_shown(code, namespaces))
    except (RecursionError, mwparserfromhell.parser.ParserError) as error:
        raise BadRecord(RejectReason.BAD_FIELD, f"the page's markup cannot be parsed: {error}") from error
    return "\n".join(_without_empty_sections(_lines(text)))


def _without_tags(markup: str) -> str:
    """Without references, mathematics and the like; a removed one inside another is removed first."""
    markup = _SELF_CLOSED.sub("", markup)
    return _until_stable(markup, [_DROPPED])


def _without_templates(markup: str) -> str:
    return _until_stable(markup, [_ARGUMENT, _TEMPLATE])


def _until_stable(markup: str, patterns: Iterable[re.Pattern[str]]) -> str:
    for _ in range(_MAX_NESTING):
        before = len(markup)
        for pattern in patterns:
            markup = pattern.sub("", markup)
        if len(markup) == before:
            break
    return markup


def _without_tables(markup: str) -> str:
    if "{|" not in markup:
        return markup
    kept: list[str] = []
    opened_at: list[int] = []  # for each open table, how many lines had been kept
    for line in markup.split("\n"):
        match = _TABLE_LINE.match(line)
        if match and match[1] == "{|":
            opened_at.append(len(kept))
        elif match and opened_at:
            del kept[opened_at.pop() :]
            line = line[match.end() :]
        kept.append(line)
    return "\n".join(kept)


def _check_parsable(markup: str) -> None:
    """Raises `BadRecord` where there is so much markup, or so much left open, that parsing would take minutes."""
    marks = sum(map(markup.count, _MARKS))
    if marks > _MAX_WORK:
        raise BadRecord(
            RejectReason.BAD_FIELD,
            f"the page holds {marks:,} marks of markup (up to {_MAX_WORK:,} are parsed)",
        )
    opened: Counter[str] = Counter()
    stray = 0  # closed without having been opened
    for match in _OPENING.finditer(markup):
        bracket, slash, tag, rest = match.groups()
        name = bracket or tag.lower()
        if not bracket and rest is None:
            stray += 1  # a tag without its end
        elif rest is not None and (rest.endswith("/>") or name in _UNPAIRED_TAGS):
            continue
        elif name in _OPENED_BY or slash:
            name = _OPENED_BY.get(name, name)
            if opened[name]:
                opened[name] -= 1
            else:
                stray += 1
        else:
            opened[name] += 1
    unclosed = stray + opened.total()
    if unclosed > _MAX_UNCLOSED:
        raise BadRecord(
            RejectReason.BAD_FIELD,
            f"the page's markup holds {unclosed:,} tags, brackets or braces that are not paired "
            f"(up to {_MAX_UNCLOSED} are parsed)",
        )
    if marks * (1 + unclosed) > _MAX_WORK:
        raise BadRecord(
            RejectReason.BAD_FIELD,
            f"the page holds {marks:,} marks of markup, of which {unclosed:,} tags, brackets or braces are not "
            f"paired (up to {_MAX_WORK // (1 + unclosed):,} marks are parsed)",
        )


def _shown(code: Wikicode, namespaces: Collection[str]) -> Iterator[str]:
    """The pieces of text that the nodes show."""
    for node in code.nodes:
        if isinstance(node, nodes.Text):
            yield _LEFT_OVER.sub("", node.value)
        elif isinstance(node, nodes.Wikilink):
            yield from _shown_of_link(node, namespaces)
        elif isinstance(node, nodes.ExternalLink):
            if node.title is not None:
                yield from _shown(node.title, namespaces)
            elif not node.brackets:
                yield str(node.url)
        elif isinstance(node, nodes.HTMLEntity):
            yield _character(node)
        elif isinstance(node, nodes.Heading):
            yield f"\n{_HEADING_MARK * node.level}"
            yield from _shown(node.title, namespaces)
            yield "\n"
        elif isinstance(node, nodes.Tag):
            is_block = str(node.tag).strip().lower() in _BLOCK_TAGS and not node.wiki_markup
            if is_block:
                yield "\n"
            if node.contents is not None and str(node.tag).strip().lower() != "table":
                yield from _shown(node.contents, namespaces)
            if is_block:
                yield "\n"


def _shown_of_link(link: nodes.Wikilink, namespaces: Collection[str]) -> Iterator[str]:
    target = str(link.title).strip()
    prefix, colon, _ = target.partition(":")
    if colon and prefix.strip().lower().replace("_", " ") in namespaces:
        return
    if colon and link.text is not None and any("|" in str(text) for text in link.text.nodes):
        return  # only files take several parameters: one under a local name of their namespace
    if link.text is not None:
        yield from _shown(link.text, namespaces)
    elif not _INTERLANGUAGE.match(target):
        yield target.removeprefix(":").replace("_", " ")


def _character(entity: nodes.HTMLEntity) -> str:
    try:
        character = entity.normalize()
        character.encode("utf-8")
    except (ValueError, OverflowError):  # no such character, or half of a surrogate pair
        return ""
    return character if character.isprintable() or character.isspace() else ""


def _lines(text: str) -> Iterator[str]:
    text = _MAGIC_WORD.sub("", _STYLE.sub("", text))
    *before_brackets, rest = _EMPTY_BRACKETS.split(text)
    text = _BRACKET_COMMA.sub("(", "".join(map(str.rstrip, before_brackets)) + rest)
    for line in text.split("\n"):
        line = " ".join(line.split())
        if _WORD.search(line) and not _LEFT_OVER_LINE.match(line):
            yield line


def _without_empty_sections(lines: Iterable[str]) -> list[str]:
    """The lines, headings unmarked, without headings that have no text below them."""
    kept: list[str] = []
    filled_level = 0  # from the end: there is text below headings of this level and above it
    for line in reversed(list(lines)):
        heading = line.lstrip(_HEADING_MARK)
        level = len(line) - len(heading)
        if not level:
            kept.append(line)
            filled_level = 7
        elif level < filled_level:
            kept.append(heading.strip())
            filled_level = level
    kept.reverse()
    return kept
