"""Parquet with `text`, and optionally `title` and ids; with `passage_id` its rows are passages."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from rag_core.corpus.files import DamagedFileError
from rag_core.corpus.rows import DOCUMENT_FIELDS, BadRecord, Row, convert_rows, to_document
from rag_core.corpus.source import Source
from rag_core.records import Document, LeftOut, Passage, Reject, RejectReason
from rag_core.storage import Storage

_BATCH_ROWS = 1_000


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
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
                yield from batch_rows(batch)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise DamagedFileError(
                f"cannot be read further as Parquet ({error}); what came before is kept"
            ) from error


def batch_rows(batch: pa.RecordBatch) -> Iterator[Row | BadRecord]:
    """The rows of a batch; one with a string that is not UTF-8 becomes a `BadRecord`."""
    try:
        yield from batch.to_pylist()
        return
    except UnicodeDecodeError:
        pass  # find the rows that have it
    for number in range(batch.num_rows):
        try:
            yield batch.slice(number, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            yield BadRecord(RejectReason.BAD_ENCODING, f"a string is not UTF-8: {error.reason}")
