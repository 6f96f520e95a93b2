"""Rows of a Parquet file in batches that are bounded in memory, whatever the file says.

A dictionary holds a value once, however many rows have it: a file of some hundred bytes can stand for
gigabytes of rows.
"""

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

MOST_BYTES = 128 << 20
"""Of a batch's strings in one column, where they come from a dictionary; a single row may have more."""


def bounded_batches(
    file: BinaryIO,
    parquet: pq.ParquetFile,
    rows: int,
    *,
    columns: Sequence[str] | None = None,
    row_groups: Sequence[int] | None = None,
    use_threads: bool = True,
) -> Iterator[pa.RecordBatch]:
    """As `parquet.iter_batches`, with fewer rows to a batch where the values of a dictionary are long.

    Strings within lists are not looked at: how many a row has is not known before it is read.

    Args:
      file: what `parquet` reads from.
      rows: the most of a batch.
    """
    groups = range(parquet.metadata.num_row_groups) if row_groups is None else row_groups
    for group in groups:
        fitting = min([rows, *_fitting_rows(file, parquet.metadata, rows, columns, group)])
        yield from parquet.iter_batches(fitting, row_groups=[group], columns=columns, use_threads=use_threads)


def _fitting_rows(
    file: BinaryIO, metadata: pq.FileMetaData, rows: int, columns: Sequence[str] | None, group: int
) -> Iterator[int]:
    """For each column of which so many rows could be too large: how many would not be, by its longest value."""
    about = metadata.row_group(group)
    for number in range(about.num_columns):
        chunk = about.column(number)
        name = chunk.path_in_schema
        if (
            chunk.physical_type != "BYTE_ARRAY"
            or not chunk.has_dictionary_page
            or (columns is not None and name not in columns)
            or rows * chunk.total_uncompressed_size <= MOST_BYTES
        ):
            continue
        reader = pq.ParquetFile(file, metadata=metadata, read_dictionary=[name])
        first = next(reader.iter_batches(1, row_groups=[group], columns=[name], use_threads=False), None)
        if first is None or not pa.types.is_dictionary(first.column(0).type):
            continue
        longest = pc.max(pc.binary_length(first.column(0).dictionary)).as_py() or 1
        yield max(1, MOST_BYTES // longest)
