"""Rows of an earlier run's data set, found by a column's hashes or ids and read where they lie."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from pipelines.dataset.reader import Dataset
from pipelines.filesystems import STORAGE

_HASH_DTYPE = np.dtype([("high", "<u8"), ("low", "<u8")])
# Wanted rows nearer to each other than this are read in one go: a row group is decoded whole anyway.
_READ_ON_ROWS = 2_000


class EarlierRows:
    """A data set's rows by a hash of 128 bits each; holds 24 bytes a row in memory."""

    def __init__(self, dataset: Dataset, column: str):
        """Reads `column` of all rows: hashes of 16 bytes, or ids, which are hashed here; no nulls."""
        self._dataset = dataset
        hashes = np.concatenate(
            [
                _hash_array(batch.column(column).to_pylist())
                for batch in dataset.read(STORAGE, columns=(column,), batch_rows=100_000)
            ]
        )
        self._rows = np.argsort(hashes["high"], kind="stable")
        self._hashes = hashes[self._rows]

    def find(self, values: Sequence[bytes] | Sequence[str]) -> np.ndarray:
        """The row of each hash or id in the data set, int64 [N]; −1 where it holds none of these."""
        wanted = _hash_array(values)
        place = np.searchsorted(self._hashes["high"], wanted["high"])
        place = np.minimum(place, len(self._hashes) - 1)
        return np.where(self._hashes[place] == wanted, self._rows[place], -1)

    def read(self, rows: np.ndarray, columns: tuple[str, ...] | None = None) -> Iterator[pa.RecordBatch]:
        """`columns` (all) of the rows named, which rise, in batches; reads no more than where they lie."""
        for run in np.split(rows, np.flatnonzero(np.diff(rows) > _READ_ON_ROWS) + 1):
            if not len(run):
                continue
            first = int(run[0])
            last = int(run[-1]) + 1
            for batch in self._dataset.read(STORAGE, begin=first, end=last, columns=columns):
                inside = run[(run >= first) & (run < first + batch.num_rows)] - first
                if len(inside):
                    yield batch.take(pa.array(inside))
                first += batch.num_rows


def _hash_array(values: Sequence[bytes] | Sequence[str]) -> np.ndarray:
    return np.frombuffer(b"".join(map(_hash, values)), dtype=_HASH_DTYPE)


def _hash(value: bytes | str) -> bytes:
    return hashlib.blake2b(value.encode(), digest_size=16).digest() if isinstance(value, str) else value
