"""Embeddings and passages to an index's shards."""

import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.dataset.reader import Dataset
from pipelines.dataset.unit import Unit, UnitWriter, row_units
from pipelines.filesystems import STORAGE
from pipelines.transforms.index_build import IndexBuild, entry_batch
from pipelines.transforms.units import Work
from pipelines.transforms.vectors import vector_matrix
from rag_core.errors import UsageError
from rag_core.mips.index import MipsIndex
from rag_core.mips.shard import write_shard
from rag_core.records import Reject, RejectReason


class BuildShards(Work):
    """Writes a shard for each run of vectors, with their passages.

    Where the index grows, a passage whose id it holds already is rejected: delete the old one first.
    """

    def __init__(self, build: IndexBuild, embeddings: Dataset, passages: Dataset, shard_rows: int):
        self._build = build
        self._embeddings = embeddings
        self._passages = passages
        self._shard_rows = shard_rows

    def plan(self) -> Iterator[Unit]:
        yield from row_units(self._embeddings.path, self._embeddings.rows, self._shard_rows)

    def load(self) -> set[str]:
        """The ids among the new ones that the growing index holds already."""
        base = self._build.base
        if base is None:
            return set()
        batches = self._embeddings.read(STORAGE, columns=("passage_id",))
        new = pa.concat_arrays([batch.column("passage_id") for batch in batches])
        index = MipsIndex.open(STORAGE, self._build.folder, base)
        return set(index.passage_ids(np.setdiff1d(index.find_passages(new), index.gone)))

    def compute(self, unit: Unit, loaded: set[str], writer: UnitWriter) -> None:
        begin, end = unit.content["begin"], unit.content["end"]
        rows = end - begin - self._count_held(begin, end, loaded)
        pairs = self._pairs(begin, end, writer, loaded)
        first = next(pairs, None)  # tells the dimension and the precision
        if first is None:
            return
        base = self._build.base
        number = unit.number + len(base["shards"] if base else [])
        shard = write_shard(
            STORAGE,
            self._build.folder,
            f"shard-{number:05d}",
            rows=rows,
            dimension=first[1].shape[1],
            vector_dtype=str(first[1].dtype),
            batches=itertools.chain([first], pairs),
        )
        writer.write(entry_batch(shard.to_json()))

    def _count_held(self, begin: int, end: int, held: set[str]) -> int:
        """How many of the vectors [begin, end) are of passages that the index holds already."""
        if not held:
            return 0
        batches = self._embeddings.read(STORAGE, begin=begin, end=end, columns=("passage_id",))
        value_set = pa.array(sorted(held), pa.string())
        return sum(
            pc.sum(pc.is_in(batch.column("passage_id"), value_set=value_set)).as_py() for batch in batches
        )

    def _pairs(
        self, begin: int, end: int, writer: UnitWriter, held: set[str]
    ) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
        """Runs of passages with their vectors, without those that are held already."""
        for passages, vectors in self._runs(begin, end):
            writer.read(passages.num_rows)
            ids = passages.column("passage_id").to_pylist() if held else []
            repeated = [row for row, passage_id in enumerate(ids) if passage_id in held]
            for row in repeated:
                writer.reject(
                    Reject(
                        source=self._embeddings.path,
                        position=begin + row,
                        reason=RejectReason.DUPLICATE_ID,
                        message=f"the index holds a passage {ids[row]!r} already, and keeps it; to replace it, give "
                        "its id to --delete first",
                        record_id=ids[row],
                    )
                )
            begin += passages.num_rows
            if repeated:
                kept = np.setdiff1d(np.arange(passages.num_rows), repeated)
                passages, vectors = passages.take(kept), vectors[kept]
            writer.accept(passages.num_rows)
            if passages.num_rows:
                yield passages, vectors

    def _runs(self, begin: int, end: int) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
        """Runs of passages with their vectors."""
        # the passage of vector i stands at i or later
        runs = _PassageRuns(
            self._passages.read(STORAGE, begin=begin), self._passages.rows - self._embeddings.rows
        )
        for batch in self._embeddings.read(STORAGE, begin=begin, end=end):
            ids = batch.column("passage_id")
            vectors = vector_matrix(batch.column("vector"), self._embeddings.path)
            done = 0
            while done < len(ids):
                passages = runs.take(ids.slice(done))
                if passages is None:
                    raise UsageError(
                        f"{self._embeddings.path}: passage {ids[done].as_py()!r} is not in {self._passages.path} at "
                        "its place; give the passages that were encoded, in their order"
                    )
                yield passages, vectors[done : done + passages.num_rows]
                done += passages.num_rows


class _PassageRuns:
    """Walks over passages, taking the runs that have given ids, in order.

    Vectors are an ordered subset of the passages (a vector that was not finite is missing), so at
    most `spare` passages may be passed over.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch], spare: int):
        self._batches = batches
        self._batch = next(batches, None)
        self._at = 0
        self._spare = spare

    def take(self, ids: pa.Array) -> pa.RecordBatch | None:
        """The passages of the first ids, as many as lie together; None where the first one is not found."""
        while self._batch is not None and self._spare >= 0:
            here = self._batch.slice(self._at, len(ids))
            if here.num_rows:
                same = _equal_run(here.column("passage_id"), ids)
                if same:
                    self._at += same
                    return here.slice(0, same)
                self._at += 1
                self._spare -= 1
            else:
                self._batch, self._at = next(self._batches, None), 0
        return None


def _equal_run(left: pa.Array, right: pa.Array) -> int:
    """How many values at the start are equal."""
    length = min(len(left), len(right))
    left, right = left.slice(0, length), right.slice(0, length)
    if left.equals(right):
        return length
    return int(np.argmin(pc.equal(left, right).to_numpy(zero_copy_only=False)))
