"""A MIPS index on disk: one folder that holds everything needed to find passages and show them."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from rag_core.errors import UsageError
from rag_core.mips.approximate import Effort, approximate_search
from rag_core.mips.checksums import FileChecksum
from rag_core.mips.codes import ShardCodes
from rag_core.mips.deletions import NO_ROWS, read_gone
from rag_core.mips.exact import CPU, exact_search
from rag_core.mips.factory import EXACT
from rag_core.mips.passage_store import PassageStore
from rag_core.mips.rescoring import by_shard
from rag_core.mips.search_result import SearchResult, merge_top_k
from rag_core.mips.shard import ShardInfo
from rag_core.mips.vectors import ShardVectors
from rag_core.storage import Storage

_IDS_AT_ONCE = 1 << 20  # compared with the ones that are looked for


class MipsIndex:
    """The rows of all shards, in the manifest's order, numbered from 0.

    Attributes:
      dimension: D.
      rows: number of passages, those that are gone included.
      shards: the manifest's entries, in order.
      encoder: what the manifest records of the passage encoder.
      effort: how hard an approximate index looks by default; None of an exact one.
    """

    def __init__(
        self,
        storage: Storage,
        folder: str,
        shards: Sequence[ShardInfo],
        encoder: Mapping,
        effort: Effort | None = None,
        gone: np.ndarray = NO_ROWS,
    ) -> None:
        """Opens the files of `shards`; `open` does so from a manifest."""
        self.shards = list(shards)
        self.dimension = shards[0].dimension
        self.rows = sum(shard.rows for shard in shards)
        self.encoder = encoder
        self.effort = effort
        self._gone = gone
        self._passages = PassageStore(storage, folder, self.shards)
        self._vectors: list[ShardVectors] = []
        self._codes: list[ShardCodes] = []
        first_row = 0
        for shard in shards:
            self._vectors.append(ShardVectors(storage, folder, shard, first_row))
            if shard.trained_sha256 is not None:
                self._codes.append(ShardCodes(storage, folder, shard, first_row))
            first_row += shard.rows

    @classmethod
    def open(cls, storage: Storage, folder: str, manifest: Mapping) -> "MipsIndex":
        """Opens an index; its files are mapped and their sizes compared, not read.

        Args:
          storage: where `folder` is.
          folder: the index's folder.
          manifest: the `index` object of its manifest: `factory`, `metric`, `dimension`,
            `vector_dtype`, `rows`, `shards`, `encoder`; `trained` and `effort` of an approximate one;
            `gone` where passages were deleted.

        Raises:
          UsageError: the manifest contradicts itself or a file is missing or of another size.
        """
        where = f"{folder}: manifest.json"
        if not isinstance(manifest.get("factory"), str) or manifest.get("metric") != "inner_product":
            raise UsageError(
                f"{where}: expected a factory with metric inner_product, "
                f"got {manifest.get('factory')!r} with {manifest.get('metric')!r}"
            )
        entries = manifest.get("shards")
        if not isinstance(entries, list) or not entries:
            raise UsageError(f"{where}: shards is expected to be a list of at least one shard")
        shards = [ShardInfo.from_json(entry, where) for entry in entries]
        _require_consistent(where, manifest, shards)
        effort = None
        if manifest["factory"] != EXACT:
            _require_one_training(where, manifest, shards)
            effort = Effort.from_json(manifest.get("effort"), where)
        gone = read_gone(storage, folder, manifest)
        return cls(storage, folder, shards, cast(Mapping, manifest.get("encoder") or {}), effort, gone)

    @property
    def live_rows(self) -> int:
        """Number of passages that can be found."""
        return self.rows - len(self._gone)

    @property
    def live(self) -> np.ndarray:
        """The rows that can be found, int64, ascending."""
        return np.setdiff1d(np.arange(self.rows), self._gone, assume_unique=True)

    @property
    def code_bytes(self) -> int:
        """Bytes of the FAISS files; 0 of an exact index."""
        return sum(codes.bytes for codes in self._codes)

    def search(
        self,
        questions: np.ndarray,
        n_docs: int,
        *,
        memory_bytes: int,
        shards: Sequence[int] | None = None,
        effort: Effort | None = None,
        exact: bool = False,
        device: torch.device = CPU,
    ) -> SearchResult:
        """The `n_docs` best rows for each question; see `exact_search` and `approximate_search`.

        Files are proved against their checksums in the first search that reads them.

        Args:
          questions: float32 [B, D].
          n_docs: K; all rows are returned where there are fewer.
          memory_bytes: what the search may allocate.
          shards: numbers of the shards to search, all by default. `merge` joins such results.
          effort: of an approximate search; the index's own by default.
          exact: whether to search an approximate index exactly, by its stored vectors.
          device: where the exact search multiplies.

        Raises:
          UsageError: a file is not the one that the manifest names, or `memory_bytes` is too small.
          ValueError: a question's vector is not finite.
        """
        numbers = range(len(self.shards)) if shards is None else shards
        vectors = [self._vectors[number] for number in numbers]
        gone = self._gone_of(vectors)
        ids_of = self._passages.ids
        if exact or not self._codes:
            return exact_search(
                vectors,
                questions,
                n_docs,
                memory_bytes=memory_bytes,
                ids_of=ids_of,
                gone=gone,
                device=device,
            )
        chosen = effort or self.effort or Effort()
        codes = [self._codes[number] for number in numbers]
        return approximate_search(
            codes, vectors, questions, n_docs, chosen, memory_bytes=memory_bytes, ids_of=ids_of, gone=gone
        )

    def merge(self, results: Sequence[SearchResult], n_docs: int) -> SearchResult:
        """The result over all the shards that `results` searched, each shard in one of them."""
        return merge_top_k(results, n_docs, self._passages.ids)

    def passages(self, rows: np.ndarray) -> pa.Table:
        """The passages of `rows` (int64 [n]) in that order; see `PassageStore.take`."""
        return self._passages.take(rows)

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """The stored vectors of `rows` (int64 [n], any order) as float32 [n, D]."""
        taken = np.empty((len(rows), self.dimension), dtype=np.float32)
        for shard, places in by_shard(self._vectors, rows):
            taken[places] = shard.take(rows[places])
        return taken

    def passage_ids(self, rows: np.ndarray) -> list[str]:
        """The `passage_id` of `rows` (int64 [n]), in that order."""
        return self._passages.ids(rows)

    def find_passages(self, passage_ids: pa.Array) -> np.ndarray:
        """The rows (int64, ascending) whose `passage_id` is among the given, those that are gone included."""
        found = [np.empty(0, dtype=np.int64)]
        for begin in range(0, self.rows, _IDS_AT_ONCE):
            rows = np.arange(begin, min(begin + _IDS_AT_ONCE, self.rows))
            here = pc.is_in(pa.array(self._passages.ids(rows), pa.string()), value_set=passage_ids)
            found.append(rows[here.to_numpy(zero_copy_only=False)])
        return np.concatenate(found)

    @property
    def gone(self) -> np.ndarray:
        """The rows that were deleted, int64, ascending."""
        return self._gone

    def _gone_of(self, vectors: Sequence[ShardVectors]) -> np.ndarray:
        """The rows that are gone of these shards."""
        if not len(self._gone):
            return self._gone
        ends = np.searchsorted(
            self._gone, [[shard.first_row, shard.first_row + shard.rows] for shard in vectors]
        )
        return np.sort(np.concatenate([self._gone[low:high] for low, high in ends]))


def _require_one_training(where: str, manifest: Mapping, shards: Sequence[ShardInfo]) -> None:
    """Codes of separate trainings mean different things: their results are never merged."""
    trained = FileChecksum.from_json(manifest.get("trained"), f"{where}: trained").sha256
    for shard in shards:
        if shard.trained_sha256 != trained:
            raise UsageError(
                f"{where}: shard {shard.name} is of the training {shard.trained_sha256!r}, the index of {trained!r}; "
                "indexes of separate training cannot be joined: rebuild the index"
            )


def _require_consistent(where: str, manifest: Mapping, shards: Sequence[ShardInfo]) -> None:
    names = [shard.name for shard in shards]
    if len(set(names)) < len(names):
        raise UsageError(f"{where}: two shards have the same name among {names}")
    rows = sum(shard.rows for shard in shards)
    if rows != manifest.get("rows"):
        raise UsageError(f"{where}: its shards have {rows} rows, expected rows {manifest.get('rows')!r}")
    for shard in shards:
        for key in ("dimension", "vector_dtype"):
            if getattr(shard, key) != manifest.get(key):
                raise UsageError(
                    f"{where}: shard {shard.name} has {key} {getattr(shard, key)!r}, "
                    f"expected the index's {manifest.get(key)!r}"
                )
