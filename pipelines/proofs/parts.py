"""Proves the Parquet parts of a data set: files, rows, schema, footers, values and ids, each part read once."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from pipelines.dataset.manifest import MANIFEST, Manifest
from pipelines.proofs.findings import Check, Report
from pipelines.proofs.reading import Reading, prove_file
from pipelines.proofs.unique_ids import UniqueIds
from pipelines.proofs.values import RULES
from rag_core.errors import UsageError
from rag_core.storage import Storage, join
from rag_core.tables import TableFile, WrittenFile, inspect_table, read_batches
from schemas import FORMAT_VERSION, TABLES
from schemas.embeddings import embeddings_schema
from schemas.question_vectors import question_vectors_schema

_ID_COLUMNS = ("passage_id", "question_id")
_VECTOR_SCHEMAS = {
    "embeddings": embeddings_schema,
    "question_vectors": lambda dimension, dtype: question_vectors_schema(dimension),
}


def prove_files(
    storage: Storage, folder: str, parts: list[WrittenFile], report: Report, reading: Reading
) -> set[str]:
    """Proves that every file that the manifest lists is there, with its size and SHA-256.

    Returns:
      The names of those that are.
    """
    whole = set()
    with report.check("files", folder) as check:
        check.note = (
            f"{len(parts):,} files, {sum(part.bytes for part in parts):,} bytes, have size and SHA-256"
        )
        for part in parts:
            with check.guard(join(folder, part.name)):
                wrong = prove_file(reading, storage, join(folder, part.name), part.bytes, part.sha256)
                if wrong is None:
                    whole.add(part.name)
                else:
                    check.fail(wrong)
    return whole


def prove_parts(
    storage: Storage, folder: str, manifest: Manifest, table: str, fingerprint: str, report: Report
) -> int | None:
    """Proves what stands in the parts, those that are damaged included as far as they can be read.

    Args:
      table: that the parts hold.
      fingerprint: that the parts' footers tell.

    Returns:
      The rows that lie there; None where a part cannot be read.
    """
    rows, schema, footers, values, ids = (
        Check(name) for name in ("rows", "schema", "footers", "values", "ids")
    )
    id_column = next((name for name in _ID_COLUMNS if name in TABLES[table].names), None)
    found: list[tuple[str, TableFile]] = []
    known = True
    with UniqueIds() as unique:
        first = 0
        for part in manifest.parts:
            path = join(folder, part.name)
            try:
                file = inspect_table(storage, path)
            except (UsageError, ValueError) as error:
                rows.fail(f"{error}; make the data set again with --overwrite")
                known = False
                continue
            found.append((path, file))
            if file.rows != part.rows:
                rows.fail(
                    f"{path}: holds {file.rows:,} rows, expected {part.rows:,} from {MANIFEST}; make the data set "
                    "again with --overwrite"
                )
            _prove_footer(path, file, table, fingerprint, footers)
            _prove_schema(path, file.schema, table, found[0][1].schema, schema)
            _prove_dimension(path, file.schema, manifest, schema)
            with values.guard(path):
                _read(storage, path, table, id_column, first, values, unique)
            first += file.rows
        if id_column is not None:
            ids.note = f"{unique.count:,} times {id_column}, each once"
            for again in unique.repeated():
                ids.fail(_repeated(storage, found, id_column, again))
    total = sum(file.rows for _, file in found)
    rows.note = f"{total:,} in {len(found):,} parts, as listed"
    schema.note = f"columns, types and nullability are those of {table}"
    footers.note = f"each part is of {table} {fingerprint[:12]}…"
    values.note = f"no nulls where none may be{RULES[table].note if table in RULES else ''}"
    report.end(rows, schema, footers, values, *([ids] if id_column is not None else []))
    return total if known else None


def _read(
    storage: Storage,
    path: str,
    table: str,
    id_column: str | None,
    first: int,
    values: Check,
    unique: UniqueIds,
) -> None:
    """Reads a part through: nulls and damage end it, values and ids are entered."""
    row = 0
    for batch in read_batches(storage, path, TABLES[table]):
        if table in RULES:
            for place, sentence in RULES[table].broken(batch):
                named = f" ({id_column} {batch.column(id_column)[place].as_py()!r})" if id_column else ""
                values.fail(f"{path}: row {row + place}{named}: {sentence}; make the data set again")
        if id_column is not None:
            rows = np.arange(first + row, first + row + batch.num_rows)
            unique.add(batch.column(id_column).to_pylist(), rows)
        row += batch.num_rows


def _prove_footer(path: str, file: TableFile, table: str, fingerprint: str, check: Check) -> None:
    footer = file.footer
    if not isinstance(footer, dict):
        check.fail(f"{path}: has no footer of rag-beam: another program wrote it; make the data set again")
        return
    told, version = footer.get("table"), footer.get("schema_version", FORMAT_VERSION)
    if (told, version) != (table, FORMAT_VERSION):
        check.fail(
            f"{path}: tells of table {told!r}, schema version {version!r}, expected {table!r}, {FORMAT_VERSION}; make "
            "the data set again with --overwrite"
        )
    if footer.get("fingerprint") != fingerprint:
        check.fail(
            f"{path}: is of the run {str(footer.get('fingerprint'))[:12]}…, expected {fingerprint[:12]}… from "
            f"{MANIFEST}: a part of another run was copied in; make the data set again with --overwrite"
        )


def _prove_schema(path: str, found: pa.Schema, table: str, first: pa.Schema, check: Check) -> None:
    """Compares with the table's schema; vectors may be of any length, but of one in all parts."""
    for sentence in _differences(found, _expected(found, table)):
        check.fail(f"{path}: {sentence}; make the data set again with --overwrite")
    for sentence in _differences(found, first):
        check.fail(f"{path}: {sentence}, as in the first part; make the data set again with --overwrite")


def _prove_dimension(path: str, found: pa.Schema, manifest: Manifest, check: Check) -> None:
    """Embeddings are as long as the encoder that the manifest tells of makes them."""
    encoder = manifest.details.get("encoder")
    place = found.get_field_index("vector")
    if isinstance(encoder, dict) and place >= 0 and pa.types.is_fixed_size_list(found.field(place).type):
        size = found.field(place).type.list_size
        if encoder.get("dimension", size) != size:
            check.fail(
                f"{path}: has vectors of {size} dimensions, its encoder gives {encoder['dimension']}; make the "
                "data set again with --overwrite"
            )


def _expected(found: pa.Schema, table: str) -> pa.Schema:
    if table in _VECTOR_SCHEMAS and "vector" in found.names:
        vector = found.field("vector").type
        if pa.types.is_fixed_size_list(vector) and vector.value_type in (pa.float16(), pa.float32()):
            dtype = "float16" if vector.value_type == pa.float16() else "float32"
            return _VECTOR_SCHEMAS[table](vector.list_size, dtype)
    return TABLES[table]


def _differences(found: pa.Schema, expected: pa.Schema) -> Iterator[str]:
    """How two schemas differ; columns that may be null may also be absent."""
    for column in expected:
        place = found.get_field_index(column.name)
        if place < 0:
            if not column.nullable:
                yield f"has no column {column.name!r}, expected {_told(column)}"
        elif not _same(found.field(place), column):
            yield f"column {column.name!r} is {_told(found.field(place))}, expected {_told(column)}"
    for name in found.names:
        if expected.get_field_index(name) < 0:
            yield f"has a column {name!r}, expected {', '.join(expected.names)}"


def _same(found: pa.Field, expected: pa.Field) -> bool:
    if pa.types.is_fixed_size_list(expected.type) and pa.types.is_fixed_size_list(found.type):
        # what one item is called is lost on the way through Parquet
        same = (found.type.value_type, found.type.list_size) == (
            expected.type.value_type,
            expected.type.list_size,
        )
    else:
        same = found.type.equals(expected.type)
    return same and found.nullable == expected.nullable


def _told(column: pa.Field) -> str:
    return f"{column.type}{'' if column.nullable else ' not null'}"


def _repeated(
    storage: Storage, found: list[tuple[str, TableFile]], id_column: str, rows: tuple[int, int]
) -> str:
    (first_path, first), (path, again) = (_place(found, row) for row in rows)
    ids = pa.schema([pa.field(id_column, pa.string())])
    batch = next(read_batches(storage, path, ids, begin=again, end=again + 1))
    return (
        f"{path}: row {again}: {id_column} {batch.column(0)[0].as_py()!r} stands in row {first} of {first_path} "
        "already, expected each once; make the data set again with --overwrite"
    )


def _place(found: list[tuple[str, TableFile]], row: int) -> tuple[str, int]:
    """The part and the row in it of a row of the whole data set."""
    for path, file in found:
        if row < file.rows:
            return path, row
        row -= file.rows
    raise IndexError(f"row {row} behind the last part")
