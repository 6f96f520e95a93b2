"""A shard's vectors as an approximate index has them: a FAISS index on disk, built by itself.

All shards are filled copies of one trained, empty FAISS index, so their codes mean the same and their
results can be merged. Indexes of separate training never are: each shard names the training it is of.
"""

from collections.abc import Mapping

import faiss
import numpy as np

from rag_core.errors import UsageError
from rag_core.mips.checksums import ChecksumWriter, FileChecksum, proved_locally, require_size
from rag_core.mips.factory import Factory
from rag_core.mips.shard import ShardInfo
from rag_core.mips.vectors import ShardVectors
from rag_core.storage import Storage, join

TRAINED_FILE = "trained.faiss"
_ADDED_ROWS = 16_384


def train(factory: Factory, sample: np.ndarray) -> faiss.Index:
    """An empty index of the factory, trained on `sample` (float32 [n, D]).

    Raises:
      UsageError: the sample is smaller than the factory needs.
    """
    required = factory.train_rows_required()
    if len(sample) < required:
        raise UsageError(
            f"--factory {factory.text}: needs at least {required:,} vectors to train on, got {len(sample):,}; give "
            "a factory with fewer lists or centroids, --train_rows, or a larger corpus"
        )
    index = factory.empty()
    if not index.is_trained:
        index.train(sample)
    return index


def write_faiss(storage: Storage, path: str, index: faiss.Index) -> FileChecksum:
    """Commits a FAISS index to a file."""
    with storage.create(path) as file:
        writer = ChecksumWriter(file)
        faiss.write_index(index, faiss.PyCallbackIOWriter(writer.write))  # type: ignore[attr-defined]
        return writer.checksum()


def read_faiss(storage: Storage, path: str, expected: FileChecksum) -> faiss.Index:
    """Reads a FAISS index, its SHA-256 proved before FAISS sees it.

    Raises:
      UsageError: the file is missing, or is not the one that the manifest names.
    """
    with proved_locally(storage, path, expected) as local_path:
        return faiss.read_index(local_path)


class ShardCodes:
    """One shard's FAISS index; read from the disk when it is asked for, and kept where memory allows."""

    def __init__(self, storage: Storage, folder: str, info: ShardInfo, first_row: int) -> None:
        """Compares the file's size with the manifest's.

        Raises:
          UsageError: the file is missing, or shorter or longer.
        """
        self.info = info
        self.first_row = first_row
        self._storage = storage
        self._path = join(folder, info.codes_file)
        self._kept: faiss.Index | None = None
        require_size(storage, self._path, self._checksum)

    @property
    def bytes(self) -> int:
        """Of the file, and nearly so of the memory that the index takes."""
        return self._checksum.bytes

    def load(self, *, keep: bool) -> faiss.Index:
        """The FAISS index; with `keep` it stays in memory for the next call.

        Raises:
          UsageError: the file is not the one that the manifest names.
        """
        if self._kept is not None:
            return self._kept
        index = read_faiss(self._storage, self._path, self._checksum)
        if (index.ntotal, index.d) != (self.info.rows, self.info.dimension):
            raise UsageError(
                f"{self._path}: holds {index.ntotal} vectors of {index.d} dimensions, expected {self.info.rows} of "
                f"{self.info.dimension}; rebuild the index"
            )
        if keep:
            self._kept = index
        return index

    @property
    def _checksum(self) -> FileChecksum:
        return self.info.files[self.info.codes_file]


def add_codes(storage: Storage, folder: str, index: Mapping, factory: Factory, sample: np.ndarray) -> dict:
    """Trains on `sample` (float32 [n, D]) and fills codes for every shard of an index.

    Args:
      index: the `index` object of an exact index's manifest.

    Returns:
      The `index` object of the approximate index over the same vectors, without its effort.

    Raises:
      UsageError: the sample is smaller than the factory needs.
    """
    trained = write_faiss(storage, join(folder, TRAINED_FILE), train(factory, sample))
    shards = []
    for entry in index["shards"]:
        info = ShardInfo.from_json(entry)
        shards.append(fill_shard(storage, folder, info, trained).to_json())
    return {**index, "factory": factory.text, "trained": trained.to_json(), "shards": shards}


def fill_shard(storage: Storage, folder: str, info: ShardInfo, trained: FileChecksum) -> ShardInfo:
    """Writes a shard's codes by the index's trained FAISS index; returns the shard's new entry."""
    index = read_faiss(storage, join(folder, TRAINED_FILE), trained)
    for _, block in ShardVectors(storage, folder, info).blocks(_ADDED_ROWS):
        index.add(block.astype(np.float32))
    return info.with_codes(write_faiss(storage, join(folder, info.codes_file), index), trained.sha256)


def sample_rows(rows: int, count: int, seed: int = 0) -> np.ndarray:
    """`count` of `rows` row numbers (all where there are fewer), drawn evenly, ascending; int64."""
    if count >= rows:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
