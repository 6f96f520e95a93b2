"""A shard's vectors, memory-mapped: streamed in blocks, or single rows taken."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from rag_core.errors import UsageError
from rag_core.mips.checksums import require_sha256, require_size
from rag_core.mips.shard import ShardInfo
from rag_core.storage import Storage, join


class ShardVectors:
    """The rows `first_row …` of an index, `[rows, D]` as stored.

    The file is proved the first time it is streamed: its SHA-256 is computed beside the search and
    compared when its last block has been used.
    """

    def __init__(self, storage: Storage, folder: str, info: ShardInfo, first_row: int = 0) -> None:
        """Maps the file and compares its size, shape and type with the manifest's.

        Raises:
          UsageError: the file is missing or is not what the manifest says.
        """
        self.info = info
        self.first_row = first_row
        self._path = join(folder, info.vectors_file)
        self._checksum = info.files[info.vectors_file]
        self._proved = False
        require_size(storage, self._path, self._checksum)
        self._stored = _map(storage.local_path(self._path), self._path, info)

    @property
    def rows(self) -> int:
        return self.info.rows

    def blocks(self, rows: int) -> Iterator[tuple[int, np.ndarray]]:
        """All vectors in order, in blocks of at most `rows` rows: (index of the first row, stored block).

        Raises:
          UsageError: after the last block, in the first pass: the file's SHA-256 is not the manifest's.
        """
        if self._proved:
            for start in range(0, self.rows, rows):
                yield self.first_row + start, self._stored[start : start + rows]
            return
        digest = hashlib.sha256()
        digest.update(self._header())
        with ThreadPoolExecutor(max_workers=1) as hasher:  # hashlib lets other threads run meanwhile
            for start in range(0, self.rows, rows):
                block = self._stored[start : start + rows]
                hashed = hasher.submit(digest.update, block.data)
                yield self.first_row + start, block
                hashed.result()  # so both readers stay on the same pages: the disk is read once
        require_sha256(self._path, digest.hexdigest(), self._checksum)
        self._proved = True

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The stored vectors `[n, D]` of `rows` (int64 [n], index rows that lie in this shard)."""
        return self._stored[rows - self.first_row]

    def _header(self) -> bytes:
        with open(str(self._stored.filename), "rb") as file:
            return file.read(self._stored.offset)


def _map(local_path: str, path: str, info: ShardInfo) -> np.memmap:
    # copy-on-write, as torch complains about read-only arrays; nothing writes to it
    try:
        stored = np.load(local_path, mmap_mode="c", allow_pickle=False)
    except ValueError as error:
        raise UsageError(f"{path}: not a NumPy file ({error}); copy the index again or rebuild it") from error
    expected = (info.rows, info.dimension)
    if stored.shape != expected or stored.dtype != info.vector_dtype or not stored.flags.c_contiguous:
        raise UsageError(
            f"{path}: holds {stored.dtype} {list(stored.shape)}, expected row-major {info.vector_dtype} "
            f"{list(expected)} from the manifest; copy the index again or rebuild it"
        )
    return stored
