"""Which format a file has, by its content."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rag_core.corpus import csv, dpr_tsv
from rag_core.corpus.delimited import Dialect
from rag_core.corpus.files import DamagedFileError, read_blocks
from rag_core.corpus.json_lines import MAX_JSON_MARKS, count_marks
from rag_core.corpus.source import Source
from rag_core.errors import UsageError
from rag_core.storage import Storage

_HEAD_BYTES = 1 << 16
_FIRST_LINE_BYTES = 1 << 24  # how far to read on for the end of a very long first line
_SQUAD = re.compile(r'^\s*\{.*"data"\s*:\s*\[.*"paragraphs"\s*:', re.DOTALL)
_JSON = re.compile(r'\s*(\{\s*["}]|\[\s*[{"])')


@dataclass(frozen=True)
class Head:
    """The start of a file.

    Attributes:
      data: some decompressed bytes, the first line whole unless it is very long.
      text: the same decoded, with what is not UTF-8 replaced.
      is_text: whether it is UTF-8 without NUL bytes.
      lines: the whole lines in it that are not empty.
      json_row: the first of these that is a JSON object.
    """

    data: bytes
    text: str
    is_text: bool
    lines: list[str]
    json_row: Mapping[str, object] | None


def read_head(storage: Storage, source: Source) -> Head:
    """Reads the start of a source's file.

    Raises:
      UsageError: the file is empty, or decompresses to nothing.
    """
    data = bytearray()
    is_whole = True
    try:
        for block in read_blocks(storage, source):
            data += block
            if len(data) >= _HEAD_BYTES and (b"\n" in data or len(data) >= _FIRST_LINE_BYTES):
                is_whole = False
                break
    except DamagedFileError as error:
        if not data:
            raise UsageError(f"{source.name}: nothing can be read from it: {error}") from error
        is_whole = False
    if not data:
        raise UsageError(f"{source.name}: the file is empty; remove it from the input, or fetch it again")
    text = data.decode("utf-8-sig", "replace")
    lines = text.splitlines()
    if not is_whole and len(lines) > 1:
        del lines[-1]  # perhaps cut
    lines = [line for line in lines if line.strip()]
    return Head(bytes(data), text, _is_text(data, is_whole), lines, _first_json_row(lines))


def _is_text(data: bytearray, is_whole: bool) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        if is_whole or error.start < len(data) - 3:  # a character may be cut at the end
            return False
    return b"\0" not in data


def _first_json_row(lines: list[str]) -> Mapping[str, object] | None:
    for line in lines[:20]:
        if line.lstrip().startswith("{") and count_marks(line) <= MAX_JSON_MARKS:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                return row
    return None


def is_parquet(head: Head) -> bool:
    return head.data.startswith(b"PAR1")


def is_squad(head: Head) -> bool:
    return _SQUAD.match(head.text) is not None


def has_fields(head: Head, *names: str) -> bool:
    """Whether the first JSON line has all of these fields."""
    return head.json_row is not None and all(name in head.json_row for name in names)


def _is_wikipedia_xml(head: Head) -> bool:
    return re.match(r"\s*(<\?xml[^>]*>\s*)?<mediawiki\b", head.text) is not None


def _is_wikiextractor(head: Head) -> bool:
    if head.text.lstrip().startswith("<doc "):
        return True
    return has_fields(head, "id", "url", "title", "text")


def _is_dpr_tsv(head: Head) -> bool:
    return bool(head.lines) and head.lines[0].rstrip("\r").split("\t") == dpr_tsv.HEADER


def _is_kilt(head: Head) -> bool:
    return has_fields(head, "wikipedia_id", "text")


def _is_fever_wiki(head: Head) -> bool:
    return has_fields(head, "id", "text", "lines")


def _is_jsonl(head: Head) -> bool:
    return has_fields(head, "text")


def _is_csv(head: Head) -> bool:
    if not head.is_text or not head.lines or _JSON.match(head.text):
        return False
    dialect = Dialect("\t" if "\t" in head.lines[0] else ",")
    if csv.column_names(dialect.split(head.lines[0])[0], ["text"], ())[1]:
        return True
    return all(line.count("\t") == len(csv.NAMES_WITHOUT_HEADER) - 1 for line in head.lines)


def _is_text_file(head: Head) -> bool:
    return head.is_text and not _JSON.match(head.text) and not head.text.lstrip().startswith("<?xml")


# in the order in which they are tried: the narrower first
CORPUS_TESTS: Mapping[str, Callable[[Head], bool]] = {
    "parquet": is_parquet,
    "wikipedia_xml": _is_wikipedia_xml,
    "kilt": _is_kilt,
    "fever_wiki": _is_fever_wiki,
    "wikiextractor": _is_wikiextractor,
    "jsonl": _is_jsonl,
    "squad": is_squad,
    "dpr_tsv": _is_dpr_tsv,
    "csv": _is_csv,
    "text": _is_text_file,
}


def detect_format(
    storage: Storage, source: Source, tests: Mapping[str, Callable[[Head], bool]], option: str
) -> str:
    """The first of `tests` that the file's start passes.

    Args:
      storage: where the file is.
      source: the file; its format is not looked at.
      tests: a test for each format.
      option: the command line option with which a user would say the format.

    Raises:
      UsageError: the file is empty, or fits none.
    """
    head = read_head(storage, source)
    for name, test in tests.items():
        if test(head):
            return name
    raise UsageError(
        f"{source.name}: its content fits none of {', '.join(tests)}; it begins with {head.text[:60]!r}. "
        f"If it has one of these formats all the same, say which with {option}"
    )
