"""Rows of files with one JSON object a line."""

import json
import re
from collections.abc import Iterable, Iterator

from rag_core.corpus.files import decode
from rag_core.corpus.rows import BadRecord, Row
from rag_core.records import EXCERPT_CHARACTERS, RejectReason

# Each number, list or object takes up to a hundred bytes, so a line of "[],[],…" twenty times its own length.
# A line of prose has this many commas after some 300 MB.
MAX_JSON_MARKS = 4_000_000

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json_lines(lines: Iterable[bytes]) -> Iterator[Row | BadRecord | None]:
    """Each line as a row, None for an empty one, a `BadRecord` for one that is no JSON object."""
    for line in lines:
        if not line.strip():
            yield None
            continue
        try:
            yield parse_json_row(decode(line))
        except BadRecord as error:
            yield error


def parse_json_row(text: str) -> Row:
    """The object that a line holds.

    Raises:
      BadRecord: `bad_json`, or `bad_encoding` for half of a surrogate pair, which no UTF-8 can hold.
    """
    excerpt = text[:EXCERPT_CHARACTERS]
    if (marks := count_marks(text)) > MAX_JSON_MARKS:
        message = f"expected a JSON object of at most {MAX_JSON_MARKS:,} commas and brackets, got {marks:,}"
        raise BadRecord(RejectReason.BAD_JSON, message, excerpt=excerpt)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"expected a JSON object on one line, got what is not JSON: {error}"
        raise BadRecord(RejectReason.BAD_JSON, message, excerpt=excerpt) from error
    if not isinstance(value, dict):
        message = f"expected a JSON object on one line, got a JSON {type(value).__name__}"
        raise BadRecord(RejectReason.BAD_JSON, message, excerpt=excerpt)
    check_escapes(value, text)
    return value


def count_marks(text: str) -> int:
    """Commas and opening brackets of some JSON: no fewer than its values, the first apart."""
    return sum(map(text.count, ",[{"))


def check_escapes(value: object, text: str) -> None:
    """Raises `BadRecord` where half of a surrogate pair stands in a value that was parsed from a text."""
    if not _SURROGATE_ESCAPE.search(text):
        return
    excerpt = text[:EXCERPT_CHARACTERS]
    try:
        written = json.dumps(value, ensure_ascii=False)
    except RecursionError as error:  # writing takes a little more of the stack than reading
        raise BadRecord(RejectReason.BAD_JSON, f"JSON nested too deep: {error}", excerpt=excerpt) from error
    check_encodable(written, excerpt)


def check_encodable(text: str, excerpt: str) -> None:
    """Raises `BadRecord` where an escape stood for half of a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = ord(text[error.start])
        message = f"an escape stands for half of a surrogate pair (U+{half:04X}), which is no character"
        raise BadRecord(RejectReason.BAD_ENCODING, message, excerpt=excerpt) from error
