"""A shard's vectors, memory-mapped: streamed in blocks, or single rows taken."""

import contextlib
import hashlib
import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import torch

from rag_core.errors import DamagedFile
from rag_core.mips.checksums import require_sha256, require_size
from rag_core.mips.shard import ShardInfo
from rag_core.storage import Storage, is_local, join

_PROVED_ROWS = 16_384  # read at a time


class ShardVectors:
    """The rows `first_row …` of an index, `[rows, D]` as stored.

    The file is proved the first time it is streamed: its SHA-256 is computed beside the search and
    compared when its last block has been used. A local one stays mapped; the copy of another is held while
    it is used, so that it may make room for others.
    """

    def __init__(self, storage: Storage, folder: str, info: ShardInfo, first_row: int = 0) -> None:
        """Compares the file's size with the manifest's, and where it is local its shape and type.

        Raises:
          UsageError: the file is missing or is not what the manifest says.
        """
        self.info = info
        self.first_row = first_row
        self._storage = storage
        self._path = join(folder, info.vectors_file)
        self._checksum = info.files[info.vectors_file]
        self._proved = False
        self._on_device: list[tuple[int, torch.Tensor]] = []  # all blocks, where a device holds them
        require_size(storage, self._path, self._checksum)
        self._mapped = _map(self._path, self._path, info) if is_local(self._path) else None

    @property
    def rows(self) -> int:
        return self.info.rows

    def blocks(self, rows: int) -> Iterator[tuple[int, np.ndarray]]:
        """All vectors in order, in blocks of at most `rows` rows: (index of the first row, stored block).

        The next block is read from the disk while the caller works on the one it has; what it has
        worked on is given back, so that the process holds two blocks and not the file.

        Raises:
          UsageError: after the last block, in the first pass: the file's SHA-256 is not the manifest's.
        """
        with self._stored() as stored:
            digest = None if self._proved else hashlib.sha256(_header(stored))
            with ThreadPoolExecutor(max_workers=1) as reader:  # hashlib lets other threads run meanwhile
                blocks = [stored[start : start + rows] for start in range(0, self.rows, rows)]
                ahead = reader.submit(_read, blocks[0], digest)
                for number, block in enumerate(blocks):
                    ahead.result()
                    if number + 1 < len(blocks):
                        ahead = reader.submit(_read, blocks[number + 1], digest)
                    yield self.first_row + number * rows, block
                    _give_back(stored, number * rows, len(block))
            if digest is not None:
                require_sha256(self._path, digest.hexdigest(), self._checksum)
                self._proved = True

    def blocks_on(
        self, device: torch.device, rows: int
    ) -> Iterator[tuple[int, np.ndarray]] | Iterator[tuple[int, torch.Tensor]]:
        """The blocks of `blocks`, on `device` where it is not the CPU; they stay there where they fit.

        A device keeps a shard when half of its free memory remains free; the other half is the search's.
        """
        if device.type == "cpu":
            return self.blocks(rows)
        return self._device_blocks(device, rows)

    def prove(self) -> None:
        """Reads the file once, so that single rows may be taken from it.

        Raises:
          UsageError: its SHA-256 is not the manifest's.
        """
        if not self._proved:
            for _ in self.blocks(_PROVED_ROWS):
                pass

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The stored vectors `[n, D]` of `rows` (int64 [n], index rows that lie in this shard)."""
        with self._stored() as stored:
            return np.take(np.asarray(stored), rows - self.first_row, axis=0)

    @contextlib.contextmanager
    def _stored(self) -> Iterator[np.memmap]:
        """The vectors as they are mapped, until the block ends."""
        if self._mapped is not None:
            yield self._mapped
            return
        with self._storage.held_locally(self._path, self._checksum.sha256) as local_path:
            yield _map(local_path, self._path, self.info)

    def _device_blocks(self, device: torch.device, rows: int) -> Iterator[tuple[int, torch.Tensor]]:
        if self._on_device:
            yield from self._on_device
            return
        keeps = self._checksum.bytes < _free_bytes(device) // 2
        kept = []
        for first_row, stored in self.blocks(rows):
            block = torch.from_numpy(stored).to(device)
            if keeps:
                kept.append((first_row, block))
            yield first_row, block
        self._on_device = kept


def _give_back(stored: np.memmap, first: int, rows: int) -> None:
    """Unmaps rows from this process; the system's cache of the file still has them."""
    row_bytes = stored.itemsize * stored.shape[1]
    low = stored.offset + first * row_bytes
    high = low + rows * row_bytes
    low = -(-low // mmap.PAGESIZE) * mmap.PAGESIZE  # a page that a neighbour shares stays
    if low < high:
        cast(mmap.mmap, stored.base).madvise(mmap.MADV_DONTNEED, low, high - low)


def _header(stored: np.memmap) -> bytes:
    with open(str(stored.filename), "rb") as file:
        return file.read(stored.offset)


def _read(block: np.ndarray, digest: Any) -> None:
    """Brings a block from the disk into memory, and into the SHA-256 where one is being computed."""
    if digest is not None:
        digest.update(block.data)
    else:
        block.reshape(-1).view(np.uint8)[:: mmap.PAGESIZE].max()  # touches every page


def _free_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0]


def _map(local_path: str, path: str, info: ShardInfo) -> np.memmap:
    # copy-on-write, as torch complains about read-only arrays; nothing writes to it
    try:
        stored = np.load(local_path, mmap_mode="c", allow_pickle=False)
    except ValueError as error:
        raise DamagedFile(
            f"{path}: not a NumPy file ({error}); copy the index again or rebuild it"
        ) from error
    expected = (info.rows, info.dimension)
    if stored.shape != expected or stored.dtype != info.vector_dtype or not stored.flags.c_contiguous:
        raise DamagedFile(
            f"{path}: holds {stored.dtype} {list(stored.shape)}, expected row-major {info.vector_dtype} "
            f"{list(expected)} from the manifest; copy the index again or rebuild it"
        )
    return stored
