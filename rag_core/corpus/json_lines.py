"""Rows of files with one JSON object a line."""

import json
import re
from collections.abc import Iterable, Iterator

from rag_core.corpus.files import decode
from rag_core.corpus.rows import BadRecord, Row
from rag_core.records import EXCERPT_CHARACTERS, RejectReason

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
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"expected a JSON object on one line, got what is not JSON: {error}"
        raise BadRecord(RejectReason.BAD_JSON, message, excerpt=excerpt) from error
    if not isinstance(value, dict):
        message = f"expected a JSON object on one line, got a JSON {type(value).__name__}"
        raise BadRecord(RejectReason.BAD_JSON, message, excerpt=excerpt)
    if _SURROGATE_ESCAPE.search(text):
        check_encodable(json.dumps(value, ensure_ascii=False), excerpt)
    return value


def check_encodable(text: str, excerpt: str) -> None:
    """Raises `BadRecord` where an escape stood for half of a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = ord(text[error.start])
        message = f"an escape stands for half of a surrogate pair (U+{half:04X}), which is no character"
        raise BadRecord(RejectReason.BAD_ENCODING, message, excerpt=excerpt) from error
