"""Parquet files of our tables: written atomically, read in bounded pieces."""

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from rag_core.errors import UsageError, reason_of
from rag_core.parquet_batches import bounded_batches
from rag_core.storage import Storage
from schemas import SchemaError, conform, readable_schema

# A row group is what a reader must decode to get one row: small enough for a unit's row range.
ROW_GROUP_BYTES = 4 << 20
ROW_GROUP_ROWS = 5_000

_PROVED_ROWS = 10_000
_FOOTER_KEY = "rag_beam"

# what Arrow raises for bytes that are not, or no longer, Parquet; a column's name may be no UTF-8
_BROKEN = (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, UnicodeDecodeError)


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """What a committed file is known by."""

    name: str
    rows: int
    bytes: int
    sha256: str


class HashingFile(io.RawIOBase):
    """Passes bytes on to a file and hashes them on the way, so that no second reading is needed."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._digest = hashlib.sha256()
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._digest.update(data)
        self._file.write(data)
        size = memoryview(data).nbytes
        self._position += size
        return size

    def tell(self) -> int:
        return self._position

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class TableWriter:
    """Streams record batches into one Parquet file in row groups of bounded size.

    Made by `create_table`, which commits the file. `footer` is written after the last row.
    """

    def __init__(self, file: HashingFile, schema: pa.Schema, *, short_lived: bool = False):
        self.schema = schema
        self.rows = 0
        self.footer: dict[str, Any] = {}
        self._file = file
        has_vectors = any(pa.types.is_fixed_size_list(column.type) for column in schema)
        self._writer = pq.ParquetWriter(
            file,
            schema,
            # compressing vectors saves a tenth of their bytes, for as much time as all else takes
            compression="none" if has_vectors and short_lived else "zstd",
            use_dictionary=not has_vectors,  # vectors never repeat; trying costs twice the time
            write_statistics=not has_vectors,
            write_page_checksum=True,
        )
        self._buffer: list[pa.RecordBatch] = []
        self._buffered_rows = 0
        self._buffered_bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Appends rows; batches may be of any size."""
        for begin in range(0, batch.num_rows, ROW_GROUP_ROWS):
            piece = batch.slice(begin, ROW_GROUP_ROWS)
            self._buffer.append(piece)
            self._buffered_rows += piece.num_rows
            self._buffered_bytes += piece.nbytes
            if self._buffered_rows >= ROW_GROUP_ROWS or self._buffered_bytes >= ROW_GROUP_BYTES:
                self._flush()

    def finish(self) -> None:
        """Writes what is buffered, then the footer. Called only when every row was delivered."""
        self._flush()
        self._writer.add_key_value_metadata({_FOOTER_KEY: json.dumps(self.footer, sort_keys=True)})
        self._writer.close()

    def abandon(self) -> None:
        """Gives the table up without a footer, so that nothing takes what was written for a table."""
        self._writer.is_open = False  # or the writer would write a footer when it is collected

    def _flush(self) -> None:
        if self._buffer:
            self._writer.write_table(pa.Table.from_batches(self._buffer, schema=self.schema))
            self.rows += self._buffered_rows
        self._buffer, self._buffered_rows, self._buffered_bytes = [], 0, 0


class TableCreation:
    """The writer of a table while it is made, and the finished file's size and hash afterwards."""

    def __init__(self, writer: TableWriter):
        self.writer = writer
        self.written: WrittenFile | None = None


@contextlib.contextmanager
def create_table(
    storage: Storage, path: str, schema: pa.Schema, *, short_lived: bool = False
) -> Iterator[TableCreation]:
    """A Parquet file that appears whole under `path` when the block ends without an exception.

    One that is `short_lived` is read once and then removed.

    The writer is not closed on an exception: closing writes a footer, and a readable footer on
    half a table is how half a table gets taken for a whole one.
    """
    with storage.create(path) as file:
        hashing = HashingFile(file)
        creation = TableCreation(TableWriter(hashing, schema, short_lived=short_lived))
        try:
            yield creation
            creation.writer.finish()
        except BaseException:
            creation.writer.abandon()
            raise
    name = path.rsplit("/", 1)[-1]
    creation.written = WrittenFile(name, creation.writer.rows, hashing.tell(), hashing.sha256)


@dataclass(frozen=True, slots=True)
class TableFile:
    """A Parquet file's row count, schema and, where we wrote it, our footer (else None)."""

    rows: int
    schema: pa.Schema
    footer: dict[str, Any] | None


def inspect_table(storage: Storage, path: str, *, prove: bool = False) -> TableFile:
    """Reads a Parquet file's footer.

    Args:
      prove: reads every page besides, and compares the checksums that our files have.

    Raises:
      UsageError: the file is missing, is not whole Parquet or, where that was to be proved, damaged.
    """
    with _open_parquet(storage, path) as (file, parquet):
        if prove:
            try:
                for _ in bounded_batches(file, parquet, _PROVED_ROWS):
                    pass
            except _BROKEN as error:
                raise _damaged(path, error) from error
        metadata = parquet.metadata.metadata or {}
        footer = metadata.get(_FOOTER_KEY.encode())
        try:
            told = json.loads(footer) if footer else None
        except ValueError as error:
            raise _damaged(path, error) from error
        return TableFile(parquet.metadata.num_rows, parquet.schema_arrow, told)


def read_batches(
    storage: Storage,
    path: str,
    schema: pa.Schema,
    *,
    begin: int = 0,
    end: int | None = None,
    batch_rows: int = 1_000,
) -> Iterator[pa.RecordBatch]:
    """Streams the rows [begin, end) of a Parquet file as the table `schema` names it.

    Only the columns of `schema` and the row groups that hold the rows are read.

    Raises:
      UsageError: the file is missing, is not whole, or its columns do not fit.
    """
    with _open_parquet(storage, path) as (file, parquet):
        try:
            target = readable_schema(parquet.schema_arrow, schema, path)
            groups, skip = _row_groups(parquet, begin, end)
            left = (parquet.metadata.num_rows if end is None else end) - begin
            present = [name for name in target.names if name in parquet.schema_arrow.names]
            for batch in bounded_batches(file, parquet, batch_rows, columns=present, row_groups=groups):
                dropped = min(skip, batch.num_rows)
                skip -= dropped
                kept = batch.slice(dropped, left)
                left -= kept.num_rows
                if kept.num_rows:
                    kept.validate(full=True)  # Arrow takes strings for UTF-8 unseen
                    yield conform(kept, target, path)
                if left <= 0:
                    return
        except SchemaError as error:
            raise UsageError(str(error)) from error
        except _BROKEN as error:
            raise _damaged(path, error) from error


def _damaged(path: str, error: Exception) -> UsageError:
    return UsageError(f"{path}: is damaged Parquet ({reason_of(error)}); make the file again")


def _row_groups(parquet: pq.ParquetFile, begin: int, end: int | None) -> tuple[list[int], int]:
    """The row groups that hold [begin, end), and the rows to skip in the first of them."""
    groups: list[int] = []
    skip, first = 0, 0
    for group in range(parquet.metadata.num_row_groups):
        last = first + parquet.metadata.row_group(group).num_rows
        if last > begin and (end is None or first < end):
            if not groups:
                skip = begin - first
            groups.append(group)
        first = last
    return groups, skip


@contextlib.contextmanager
def _open_parquet(storage: Storage, path: str) -> Iterator[tuple[BinaryIO, pq.ParquetFile]]:
    try:
        file = storage.open(path)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be opened ({error.strerror or error})") from error
    with file:
        try:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
        except _BROKEN as error:
            raise UsageError(f"{path}: is not a whole Parquet file ({reason_of(error)})") from error
        with parquet:
            yield file, parquet
