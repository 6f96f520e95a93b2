"""A MIPS index on disk: one folder that holds everything needed to find passages and show them."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pyarrow as pa

from rag_core.errors import UsageError
from rag_core.mips.exact import exact_search
from rag_core.mips.passage_store import PassageStore
from rag_core.mips.search_result import SearchResult, merge_top_k
from rag_core.mips.shard import ShardInfo
from rag_core.mips.vectors import ShardVectors
from rag_core.storage import Storage


class MipsIndex:
    """The rows of all shards, in the manifest's order, numbered from 0.

    Attributes:
      dimension: D.
      rows: number of passages.
      shards: the manifest's entries, in order.
      encoder: what the manifest records of the passage encoder.
    """

    def __init__(self, storage: Storage, folder: str, shards: Sequence[ShardInfo], encoder: Mapping) -> None:
        """Opens the files of `shards`; `open` does so from a manifest."""
        self.shards = list(shards)
        self.dimension = shards[0].dimension
        self.rows = sum(shard.rows for shard in shards)
        self.encoder = encoder
        self._passages = PassageStore(storage, folder, self.shards)
        self._vectors: list[ShardVectors] = []
        first_row = 0
        for shard in shards:
            self._vectors.append(ShardVectors(storage, folder, shard, first_row))
            first_row += shard.rows

    @classmethod
    def open(cls, storage: Storage, folder: str, manifest: Mapping) -> "MipsIndex":
        """Opens an index; its files are mapped and their sizes compared, not read.

        Args:
          storage: where `folder` is.
          folder: the index's folder.
          manifest: the `index` object of its manifest: `factory`, `metric`, `dimension`,
            `vector_dtype`, `rows`, `shards`, `encoder`.

        Raises:
          UsageError: the manifest contradicts itself or a file is missing or of another size.
        """
        where = f"{folder}: manifest.json"
        if manifest.get("factory") != "Flat" or manifest.get("metric") != "inner_product":
            raise UsageError(
                f"{where}: expected factory Flat with metric inner_product, "
                f"got {manifest.get('factory')!r} with {manifest.get('metric')!r}"
            )
        entries = manifest.get("shards")
        if not isinstance(entries, list) or not entries:
            raise UsageError(f"{where}: shards is expected to be a list of at least one shard")
        shards = [ShardInfo.from_json(entry, where) for entry in entries]
        _require_consistent(where, manifest, shards)
        return cls(storage, folder, shards, cast(Mapping, manifest.get("encoder") or {}))

    def search(
        self, questions: np.ndarray, n_docs: int, *, memory_bytes: int, shards: Sequence[int] | None = None
    ) -> SearchResult:
        """The exact `n_docs` best rows for each question; see `exact_search`.

        Vector files are proved against their checksums in the first search that streams them.

        Args:
          questions: float32 [B, D].
          n_docs: K; all rows are returned where there are fewer.
          memory_bytes: what the search may allocate.
          shards: numbers of the shards to search, all by default. `merge` joins such results.

        Raises:
          UsageError: a file is not the one that the manifest names, or `memory_bytes` is too small.
          ValueError: a question's vector is not finite.
        """
        searched = self._vectors if shards is None else [self._vectors[number] for number in shards]
        return exact_search(searched, questions, n_docs, memory_bytes=memory_bytes, ids_of=self._passages.ids)

    def merge(self, results: Sequence[SearchResult], n_docs: int) -> SearchResult:
        """The result over all the shards that `results` searched, each shard in one of them."""
        return merge_top_k(results, n_docs, self._passages.ids)

    def passages(self, rows: np.ndarray) -> pa.Table:
        """The passages of `rows` (int64 [n]) in that order; see `PassageStore.take`."""
        return self._passages.take(rows)


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
