import time

import mwparserfromhell
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_core.corpus.rows import BadRecord
from rag_core.corpus.wikitext import plain_text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("'''Bold''' and ''italic'' and '''''both'''''", "Bold and italic and both"),
        ("It's the dogs' own", "It's the dogs' own"),
        ("A [[link]], a [[target page|shown one]], [[:Category:Dogs]]", "A link, a shown one, Category:Dogs"),
        ("plural [[dog]]s", "plural dogs"),
        ("[http://x.org a page] and [http://x.org] and http://y.org", "a page and and http://y.org"),
        ("a{{template|b=[[c]]}} d{{outer|{{inner}}|x={y}}} e", "a d e"),
        ("a {{#if:{{{1|}}}|b}} c {{{2}}}", "a c"),
        ("x<ref>note</ref> y<ref name=a /> z<ref group='n'>{{cite|t=u}}</ref>.", "x y z."),
        ("x<!-- hidden --> y", "x y"),
        ("f <math>\\frac{a}{b}</math> g", "f g"),
        ("<gallery>\nFile:A.jpg|b\n</gallery>c", "c"),
        ("[[File:A.jpg|thumb|A [[caption]] here]]text", "text"),
        ("[[Image:B.png]][[category:Dogs]][[fr:Chien]][[zh-min-nan:Káu]]dog", "dog"),
        ("[[Bild:C.png|thumb|250px|unten]]dog", "dog"),
        ("[[Star Wars: Episode I]]", "Star Wars: Episode I"),
        ("{|\n|-\n| cell\n{|\n| nested\n|}\n|}after", "after"),
        ("* one\n** two\n# three\n: four\n; five", "one\ntwo\nthree\nfour\nfive"),
        ("__NOTOC__ a __BEZSATURA__ snake__case__x", "a snake__case__x"),
        ("x__TOC__ y ___TOC__ __TOC__z (__TOC__)", "x__TOC__ y _ __TOC__z"),
        ("AT&amp;T &lt;b&gt; &ndash; 5&nbsp;km &#x41; &nosuch;", "AT&T <b> – 5 km A &nosuch;"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("H<sub>2</sub>O <code>x</code> <nowiki>[y]</nowiki>", "H2O x [y]"),
        ("<blockquote>quoted</blockquote>", "quoted"),
        ("Aaron ({{lang|he|x}}; {{ipa|y}}) was, ({{a}}, born 5) x", "Aaron was, (born 5) x"),
        ("a () ( , ) b\n\n  (; )\nc (d ( ) e)", "a b\nc (d e)"),
        ("a\n\n\n  b   c  \n", "a\nb c"),
        ("\u2003a\u2003\t b\x85c \u2028 d", "a b c d"),
        ("unclosed {{template and [[link", "unclosed template and link"),
        ("{| class=x\n| open table\ntext", "text"),
    ],
)
def test_markup(markup, text):
    assert plain_text(markup) == text


def test_headings_are_lines_and_those_without_text_go():
    markup = (
        "lead\n== History ==\n=== Early ===\ntext\n=== Late ===\n{{stub}}\n== References ==\n<references />\n"
    )
    assert plain_text(markup) == "lead\nHistory\nEarly\ntext"


def test_a_wiki_has_its_own_names_for_files():
    assert plain_text("[[Fails:A.jpg]]a[[Kategoreja:B]]", {"fails", "kategoreja"}) == "a"


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(["word", "[[", "]]", "{{", "}}", "{|", "|}", "|", "'''", "<b>", "</b>", "<ref>",
                                 "</ref>", "=", "==", "\n", "*", "&lt;", "http://a", "<!--", "-->", " "])))  # fmt: skip
def test_no_markup_raises_anything_else(pieces):
    try:
        text = plain_text("".join(pieces))
    except BadRecord as error:
        assert error.reason == "bad_field"
    else:
        assert all(line.strip() == line and line for line in text.splitlines())


@settings(deadline=None, max_examples=100)
@given(st.text("abc ,.-ä\n", max_size=60))
def test_plain_prose_is_what_the_library_makes_of_it(prose):
    expected = mwparserfromhell.parse(prose).strip_code().split()
    assert [word for word in expected if any(map(str.isalnum, word))] == [
        word for word in plain_text(prose).split() if any(map(str.isalnum, word))
    ]


@pytest.mark.parametrize(
    "markup",
    ["<b>" * 20_000, "[[a|" * 20_000, "{{a|b=" * 20_000, "{|\n" * 20_000, '<b a="' * 20_000, "[http://a " * 20_000,
     "<ref>" * 20_000, "</b>" * 20_000 + "<b>" * 20_000],
)  # fmt: skip
def test_markup_that_would_take_minutes_is_refused_at_once(markup):
    started = time.process_time()
    with pytest.raises(BadRecord, match="not paired"):
        plain_text(markup)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "markup",
    [
        "{{a|" * 5_000 + "}}" * 5_000,
        "(" * 50_000,
        " " * 100_000 + "x",
        "*" * 50_000,
        "=" * 50_000,
        "<!--" * 50_000,
    ],
)
def test_odd_markup_takes_no_time(markup):
    started = time.process_time()
    assert len(plain_text(markup)) <= 50_000
    assert time.process_time() - started < 5
