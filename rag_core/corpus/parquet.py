"""Parquet with `text`, and optionally `title` and ids; with `passage_id` its rows are passages."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from rag_core.corpus.files import DamagedFileError, tells_of_damage
from rag_core.corpus.rows import DOCUMENT_FIELDS, BadRecord, Row, convert_rows, to_document
from rag_core.corpus.source import Source
from rag_core.errors import reason_of
from rag_core.parquet_batches import bounded_batches
from rag_core.records import Document, LeftOut, Passage, Reject, RejectReason
from rag_core.storage import Storage

_BATCH_ROWS = 1_000

PARQUET_ERRORS = (pa.ArrowException, OSError, ValueError)
"""What Arrow raises for bytes that are not whole Parquet; a column's name may be no UTF-8."""


def read_parquet(storage: Storage, source: Source) -> Iterator[Document | Passage | LeftOut | Reject]:
    """The documents, or passages, of a Parquet file."""
    return convert_rows(source, read_parquet_rows(storage, source, DOCUMENT_FIELDS), to_document)


def read_parquet_rows(storage: Storage, source: Source, wanted: Sequence[str]) -> Iterator[Row | BadRecord]:
    """The rows of a file, of the columns in `wanted` that it has.

    Raises:
      DamagedFileError: the footer, or a row group, cannot be read.
    """
    with storage.open(source.path) as file:
        try:
            parquet = pq.ParquetFile(file)
            columns = [name for name in parquet.schema_arrow.names if name in wanted]
            for batch in bounded_batches(file, parquet, _BATCH_ROWS, columns=columns, use_threads=False):
                yield from batch_rows(batch)
        except PARQUET_ERRORS as error:
            if not tells_of_damage(error):
                raise
            raise DamagedFileError(
                f"cannot be read further as Parquet ({reason_of(error)}); what came before is kept"
            ) from error


def batch_rows(batch: pa.RecordBatch) -> Iterator[Row | BadRecord]:
    """The rows of a batch; one that is damaged, or has a string that is not UTF-8, becomes a `BadRecord`."""
    try:
        rows: list[Row] = _checked_rows(batch)
    except BadRecord:
        for number in range(batch.num_rows):
            try:
                yield _checked_rows(batch.slice(number, 1))[0]
            except BadRecord as error:
                yield error
    else:
        yield from rows


def _checked_rows(batch: pa.RecordBatch) -> list[Row]:
    """The rows of a batch, whose offsets and strings are looked at first: Arrow trusts those of a file.

    Raises:
      BadRecord: one of them is damaged.
    """
    try:
        batch.validate(full=True)
    except pa.ArrowException as error:
        message = f"a string is not UTF-8, or the row is damaged: {reason_of(error)}"
        raise BadRecord(RejectReason.BAD_ENCODING, message) from error
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException) as error:  # such as a date after the year 9999
        raise BadRecord(
            RejectReason.BAD_FIELD, f"a value that Python cannot hold: {reason_of(error)}"
        ) from error
