"""Slices of questions by the values of other fields that their rows have: a split, a topic, a year.

A way of slicing is one or more fields; a question's slice in it is `split=dev`, or
`split=dev,topic=sport` for several fields. Questions without a value in one of them are in no slice.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import pyarrow.parquet as pq

from rag_core.corpus.csv import read_table
from rag_core.corpus.files import DamagedFileError, read_blocks, read_lines
from rag_core.corpus.json_lines import read_json_lines
from rag_core.corpus.parquet import read_parquet_rows
from rag_core.corpus.rows import BadRecord, Row
from rag_core.errors import UsageError
from rag_core.questions.rows import TEXT_FIELDS
from rag_core.questions.source import QuestionSource
from rag_core.storage import Storage

MAX_SLICES = 200  # of one way: more are no slices but questions

Ways = tuple[tuple[str, ...], ...]
_Rows = Iterator[Row | BadRecord | None]


def _json_rows(storage: Storage, source: QuestionSource, fields: Sequence[str]) -> _Rows:
    return read_json_lines(read_lines(read_blocks(storage, source)))


def _table_rows(storage: Storage, source: QuestionSource, fields: Sequence[str]) -> _Rows:
    return read_table(read_lines(read_blocks(storage, source)), TEXT_FIELDS)


# the formats whose records are rows with named fields: the p-th is the record at position p
_ROWS: Mapping[str, Callable[[Storage, QuestionSource, Sequence[str]], _Rows]] = {
    "jsonl": _json_rows,
    "fever": _json_rows,
    "kilt": _json_rows,
    "csv": _table_rows,
    "parquet": read_parquet_rows,
}


def parse_ways(arguments: Sequence[str]) -> Ways:
    """The fields of each way of slicing, from `split` or, for combinations, `split,topic`.

    Raises:
      UsageError: a field without a name, or one named twice in a way; a way named twice.
    """
    ways = tuple(tuple(field.strip() for field in argument.split(",")) for argument in arguments)
    for way, argument in zip(ways, arguments, strict=True):
        if "" in way or len(set(way)) < len(way) or ways.count(way) > 1:
            raise UsageError(
                f"--slice_by {argument}: expected a field, or different fields joined by commas, each "
                f"argument once; got {' '.join(arguments)}"
            )
    return ways


def check_slices(storage: Storage, sources: Sequence[QuestionSource], ways: Ways) -> None:
    """Reads the sources through to see that there are slices, and not too many; not at all without ways.

    Raises:
      UsageError: a field that no record has, a way without a slice or with more than `MAX_SLICES`, or
        what `read_slices` raises.
    """
    found: list[set[str]] = [set() for _ in ways]
    for source in sources if ways else ():
        for slices in read_slices(storage, source, ways):
            for way, names, name in zip(ways, found, slices, strict=True):
                if name is not None:
                    names.add(name)
                if len(names) > MAX_SLICES:
                    raise UsageError(
                        f"--slice_by {','.join(way)}: the references have more than {MAX_SLICES} values of it, "
                        f"such as {name!r:.80}; slice by a field with fewer"
                    )
    for way, names in zip(ways, found, strict=True):
        if not names:
            raise UsageError(_no_slice(storage, sources, way))


def read_slices(storage: Storage, source: QuestionSource, ways: Ways) -> Iterator[tuple[str | None, ...]]:
    """For each record of a source, in order, its slice in each way, None where it is in none.

    The p-th are those of the record at position p. A file that is cut off ends early.

    Raises:
      UsageError: the format has no named fields, or a value is neither text, number nor boolean.
    """
    if source.format not in _ROWS:
        raise UsageError(
            f"--slice_by: {source.name} is {source.format}, which has no fields to slice by; give the references "
            f"as one of {', '.join(_ROWS)}"
        )
    fields = list(dict.fromkeys(field for way in ways for field in way))
    try:
        for position, row in enumerate(_ROWS[source.format](storage, source, fields)):
            present: Row = row if isinstance(row, Mapping) else {}
            values = {field: _value(present.get(field), field, source, position) for field in fields}
            yield tuple(_slice(way, values) for way in ways)
    except DamagedFileError:
        return  # the reader of the questions rejects what is missing


def _slice(way: tuple[str, ...], values: Mapping[str, str]) -> str | None:
    if not all(values[field] for field in way):
        return None
    return ",".join(f"{field}={values[field]}" for field in way)


def _value(value: object, field: str, source: QuestionSource, position: int) -> str:
    """A field's value as text, empty where it has none; a boolean as JSON writes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value).strip()
    raise UsageError(
        f"--slice_by {field}: in record {position} of {source.name} it is a {type(value).__name__}; expected text, "
        "a number or a boolean"
    )


def _no_slice(storage: Storage, sources: Sequence[QuestionSource], way: tuple[str, ...]) -> str:
    known: dict[str, None] = {}  # an ordered set
    for source in sources:
        known.update(dict.fromkeys(_field_names(storage, source)))
    missing = [field for field in way if field not in known]
    if missing:
        return (
            f"--slice_by {','.join(way)}: no reference has a field {' or '.join(map(repr, missing))}; there are "
            f"{', '.join(known)}"
        )
    return f"--slice_by {','.join(way)}: no reference has a value of it; slice by fields that are filled in"


def _field_names(storage: Storage, source: QuestionSource) -> Iterator[str]:
    if source.format == "parquet":
        with storage.open(source.path) as file:
            yield from pq.read_schema(file).names
        return
    try:
        for row in _ROWS[source.format](storage, source, ()):
            if isinstance(row, Mapping):
                yield from row
    except DamagedFileError:
        return
