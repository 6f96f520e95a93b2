"""Rows with named fields, whichever file they came from, and their conversion into records.

JSON lines, tables, Parquet and datasets all become rows; `convert_rows` turns them into documents,
passages or questions, and whatever is wrong with one of them into a `Reject`.

Numbering, here and for every format: a record's position is the number of records of the file that
came before it, the header line apart: an empty line counts, a quoted field of several lines belongs to
one record. So the record at position p is the p-th that a reader yields, whatever became of the others.
"""

import itertools
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from rag_core.corpus.source import Source
from rag_core.records import (
    EXCERPT_CHARACTERS,
    Document,
    LeaveOutReason,
    LeftOut,
    Passage,
    Reject,
    RejectReason,
)

Row = Mapping[str, object]
T = TypeVar("T")

# the columns that `to_document` looks at
DOCUMENT_FIELDS = ("passage_id", "document_id", "id", "_id", "passage_number", "title", "text")

_MAX_INT32 = 2**31 - 1
_NAME_CHARACTERS = 40


class BadRecord(Exception):
    """One record cannot be used; readers turn it into a `Reject` and go on with the next."""

    def __init__(
        self, reason: RejectReason, message: str, *, record_id: str | None = None, excerpt: str = ""
    ):
        super().__init__(message)
        self.reason = reason
        self.record_id = record_id
        self.excerpt = excerpt

    def to_reject(self, source: Source, position: int, excerpt: str = "") -> Reject:
        """The row of the rejects table; `excerpt` where this exception has none of its own."""
        return Reject(
            source.name,
            position,
            self.reason,
            f"{source.name}, record {position}: {self}",
            self.record_id,
            (self.excerpt or excerpt)[:EXCERPT_CHARACTERS],
        )


def convert_rows(
    source: Source,
    rows: Iterable[Row | BadRecord | None],
    convert: Callable[[Row, Source, int], T | LeftOut],
    empty: LeaveOutReason = LeaveOutReason.EMPTY_LINE,
) -> Iterator[T | LeftOut | Reject]:
    """Numbers and converts the rows of a source.

    Args:
      source: where the rows come from.
      rows: the rows in order; None for an empty line, a `BadRecord` for what could not become a row.
      convert: makes a record of a row and its position; may raise `BadRecord`.
      empty: the reason under which None is left out.
    """
    for position, row in zip(itertools.count(source.first_record), rows, strict=False):
        if row is None:
            yield LeftOut(empty, position)
        elif isinstance(row, BadRecord):
            yield row.to_reject(source, position)
        else:
            try:
                yield convert(row, source, position)
            except BadRecord as error:
                yield error.to_reject(source, position, _excerpt(row))


def to_document(row: Row, source: Source, position: int) -> Document | Passage | LeftOut:
    """The record of a row with `text`, and optionally `title` and ids.

    A row with a `passage_id` is a passage already; any other is a document, under `document_id`, `id` or
    `_id` (the first that is present), else under its file and position.

    Raises:
      BadRecord: a field is missing or mistyped.
    """
    text = string_field(row, "text")
    if not text.strip():
        return LeftOut(LeaveOutReason.EMPTY_DOCUMENT, position)
    title = string_field(row, "title", required=False)
    passage_id = id_field(row, "passage_id")
    if passage_id is None:
        document_id = id_field(row, "document_id", "id", "_id") or source.record_id(position)
        return Document(document_id, title, text, position)
    document_id = id_field(row, "document_id") or source.record_id(position)
    return Passage(passage_id, document_id, _passage_number(row), title, text, position)


def string_field(row: Row, *names: str, required: bool = True) -> str:
    """The string under the first of `names` that the row has; null counts as empty.

    Raises:
      BadRecord: `bad_field`: another type, or none of the names present though required.
    """
    name = present_field(row, *names)
    if name is None:
        if not required:
            return ""
        wanted = " or ".join(repr(name) for name in names)
        raise BadRecord(RejectReason.BAD_FIELD, f"field {wanted} is missing; found {_names(row)}")
    value = row[name]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRecord(
            RejectReason.BAD_FIELD, f"field {name!r}: expected a string, got {type(value).__name__}"
        )
    return value


def id_field(row: Row, *names: str) -> str | None:
    """The id under the first of `names` that holds one: a string or a whole number, as a string.

    Raises:
      BadRecord: `bad_field`, for a value of another type.
    """
    for name in names:
        value = row.get(name)
        if value is None or value == "":
            continue
        if isinstance(value, bool) or not isinstance(value, str | int):
            message = f"field {name!r}: expected a string or a whole number, got {type(value).__name__}"
            raise BadRecord(RejectReason.BAD_FIELD, message)
        return str(value)
    return None


def present_field(row: Row, *names: str) -> str | None:
    """The first of `names` that the row has."""
    return next((name for name in names if name in row), None)


def _passage_number(row: Row) -> int:
    value = row.get("passage_number")
    if value is None or value == "":
        return 0
    if isinstance(value, str) and value.isdecimal() and len(value) <= len(str(_MAX_INT32)):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_INT32:
        raise BadRecord(
            RejectReason.BAD_FIELD,
            f"field 'passage_number': expected a whole number from 0, got {value!r:.50}",
        )
    return value


def _names(row: Row) -> str:
    names = (repr(name[:_NAME_CHARACTERS]) for name in itertools.islice(row, 10))
    return ", ".join(names) or "no fields"


def _excerpt(row: Row) -> str:
    """The start of a row; of a list or object only some, which may be huge or nested to the stack's limit."""
    shown = (
        f"{name}={value[:EXCERPT_CHARACTERS] if isinstance(value, str) else reprlib.repr(value)}"
        for name, value in itertools.islice(row.items(), EXCERPT_CHARACTERS)
    )
    return ", ".join(shown)[:EXCERPT_CHARACTERS]
