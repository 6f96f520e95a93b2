"""Finds ids that stand twice, in memory bounded by a bucket of hashes.

As in `pipelines.dataset.duplicates`, a bucket is a range of 128-bit hashes, and equal hashes are equal
ids. Here the hashes are spilt to temporary files, one a bucket, once they are too many to hold.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from pipelines.dataset.unit import id_hash

_KEY_DTYPE = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<i8")])
_HELD_KEYS = 4_000_000  # some 100 MB
_BUCKET_BITS = 8


class UniqueIds:
    """Takes ids in row order; tells those that stand more than once."""

    def __init__(self, held_keys: int = _HELD_KEYS) -> None:
        """`held_keys` is how many are in memory at a time."""
        self._held_keys = held_keys
        self._keys: list[np.ndarray] = []
        self._held = 0
        self._files = contextlib.ExitStack()
        self._folder: Path | None = None
        self.count = 0

    def __enter__(self) -> "UniqueIds":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def add(self, ids: Sequence[str], rows: np.ndarray) -> None:
        """Takes ids with their row numbers, int64 [n]."""
        keys = np.empty(len(ids), dtype=_KEY_DTYPE)
        hashes = np.array([id_hash(item) for item in ids], dtype=np.uint64).reshape(-1, 2)
        keys["high"], keys["low"], keys["row"] = hashes[:, 0], hashes[:, 1], rows
        self._keys.append(keys)
        self._held += len(keys)
        self.count += len(keys)
        if self._held >= self._held_keys:
            self._spill()

    def repeated(self) -> Iterator[tuple[int, int]]:
        """(row of the first, row of a later one) for each id that stands again."""
        if self._folder is None:
            yield from _repeated_in(self._taken())
            return
        self._spill()
        for path in sorted(self._folder.iterdir()):
            yield from _repeated_in(np.fromfile(path, dtype=_KEY_DTYPE))

    def _taken(self) -> np.ndarray:
        keys = np.concatenate([np.empty(0, dtype=_KEY_DTYPE), *self._keys])
        self._keys, self._held = [], 0
        return keys

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = Path(self._files.enter_context(tempfile.TemporaryDirectory()))
        keys = self._taken()
        buckets = keys["high"] >> np.uint64(64 - _BUCKET_BITS)
        order = np.argsort(buckets, kind="stable")
        edges = np.searchsorted(buckets[order], np.arange((1 << _BUCKET_BITS) + 1))
        for bucket in range(1 << _BUCKET_BITS):
            inside = keys[order[edges[bucket] : edges[bucket + 1]]]
            if len(inside):
                with (self._folder / f"{bucket:03d}").open("ab") as file:
                    inside.tofile(file)


def _repeated_in(keys: np.ndarray) -> Iterator[tuple[int, int]]:
    keys = keys[np.lexsort((keys["row"], keys["low"], keys["high"]))]
    same = np.zeros(len(keys), dtype=bool)
    same[1:] = (keys["high"][1:] == keys["high"][:-1]) & (keys["low"][1:] == keys["low"][:-1])
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(keys))))
    for place in np.flatnonzero(same):
        yield int(keys["row"][first[place]]), int(keys["row"][place])
