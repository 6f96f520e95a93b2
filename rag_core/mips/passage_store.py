"""Texts of an index: any passages by row, from the shards' memory-mapped Arrow files."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import pyarrow as pa

from rag_core.errors import UsageError
from rag_core.mips.checksums import proved_locally, require_size
from rag_core.mips.shard import ShardInfo
from rag_core.storage import Storage, is_local, join


class PassageStore:
    """The passages of all shards as one table, of which only the batches asked for are read.

    A shard's file is proved against its SHA-256 before the first passage is taken from it. A local one
    stays mapped; the copy of another is held while passages are taken from it, so that it may make room.
    Safe to use from several threads.
    """

    def __init__(self, storage: Storage, folder: str, shards: Sequence[ShardInfo]) -> None:
        """Compares the files' sizes with the manifest's.

        Raises:
          UsageError: a file is missing, or shorter or longer.
        """
        self._storage = storage
        self._folder = folder
        self._shards = shards
        self._ends = np.cumsum([shard.rows for shard in shards], dtype=np.int64)
        self._open: dict[int, _PassageFile] = {}
        self._proved: set[int] = set()
        self._lock = threading.Lock()
        for shard in shards:
            require_size(storage, join(folder, shard.passages_file), shard.files[shard.passages_file])

    def take(self, rows: np.ndarray) -> pa.Table:
        """The passages of `rows` (int64 [n], repeats allowed), in that order.

        Each compressed batch is read once a call, so ask for many rows at a time; the answer's
        columns must stay below 2 GB (Arrow's limit of a string column).

        Raises:
          IndexError: a row is not in the index.
          UsageError: a file is not the one that the manifest names.
        """
        return self._take(rows, ids_only=False)

    def ids(self, rows: np.ndarray) -> list[str]:
        """The `passage_id` of `rows` (int64 [n]), in that order; no other column is decompressed."""
        return cast(list[str], self._take(rows, ids_only=True).column("passage_id").to_pylist())

    def _take(self, rows: np.ndarray, ids_only: bool) -> pa.Table:
        if not len(rows):
            with self._lock, self._passage_file(0) as file:
                return file.reader.schema.empty_table()
        if not 0 <= rows.min() <= rows.max() < self._ends[-1]:
            raise IndexError(f"rows {rows.min()} to {rows.max()} asked of an index of {self._ends[-1]} rows")
        unique, inverse = np.unique(rows, return_inverse=True)
        shard_of_row = np.searchsorted(self._ends, unique, side="right")
        tables = []
        with self._lock:  # Arrow's file readers keep state
            for shard in np.unique(shard_of_row).tolist():
                first_row = int(self._ends[shard]) - self._shards[shard].rows
                with self._passage_file(shard) as file:
                    tables.append(file.take(unique[shard_of_row == shard] - first_row, ids_only))
        return pa.concat_tables(tables).take(inverse)

    @contextlib.contextmanager
    def _passage_file(self, shard: int) -> Iterator["_PassageFile"]:
        if shard in self._open:
            yield self._open[shard]
            return
        info = self._shards[shard]
        path = join(self._folder, info.passages_file)
        checksum = info.files[info.passages_file]
        if shard in self._proved:
            held = self._storage.held_locally(path, checksum.sha256)
        else:
            held = proved_locally(self._storage, path, checksum)
        with held as local_path:
            file = _PassageFile(local_path, path, info)
            self._proved.add(shard)
            if is_local(path):
                self._open[shard] = file
            yield file


class _PassageFile:
    """One shard's Arrow file, proved and mapped."""

    def __init__(self, local_path: str, path: str, info: ShardInfo) -> None:
        self._mapping = pa.memory_map(local_path)
        self.reader = self._open(pa.ipc.IpcReadOptions(use_threads=False))
        id_column = self.reader.schema.get_field_index("passage_id")
        self._ids = self._open(pa.ipc.IpcReadOptions(use_threads=False, included_fields=[id_column]))
        last = self.reader.num_record_batches - 1
        self._batch_rows = self.reader.get_batch(0).num_rows
        rows = last * self._batch_rows + self.reader.get_batch(last).num_rows
        if rows != info.rows:
            raise UsageError(f"{path}: holds {rows} passages for {info.rows} vectors; rebuild the index")

    def _open(self, options: pa.ipc.IpcReadOptions) -> pa.ipc.RecordBatchFileReader:
        # without threads: handing over columns this small takes longer than decompressing them
        return pa.ipc.open_file(self._mapping, options=options)

    def take(self, rows: np.ndarray, ids_only: bool) -> pa.Table:
        """Passages of `rows` of this shard: sorted, no repeats, at least one."""
        reader = self._ids if ids_only else self.reader
        batches, starts = np.unique(rows // self._batch_rows, return_index=True)
        return pa.Table.from_batches(
            [
                reader.get_batch(int(batch)).take(batch_rows % self._batch_rows)
                for batch, batch_rows in zip(batches, np.split(rows, starts[1:]), strict=True)
            ]
        )
