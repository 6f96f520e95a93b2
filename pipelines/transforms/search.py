"""Questions through an index: the work of `retrieve`.

    question vectors ─SearchIndex─▶ search results ─TakePassages─▶ retrievals

A unit of the search is a block of questions over all shards. Only where blocks are fewer than workers
are the shards divided among units too; the results of such tiles are merged by name.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from pipelines.dataset.reader import Dataset, open_dataset
from pipelines.dataset.unit import Unit, UnitWriter, row_units
from pipelines.filesystems import DEFAULT_CACHE, STORAGE, ShardCache
from pipelines.transforms.index_manifest import index_manifest
from pipelines.transforms.models import limit_threads
from pipelines.transforms.units import Work
from pipelines.transforms.vectors import vector_matrix
from rag_core.mips.approximate import Effort
from rag_core.mips.index import MipsIndex
from rag_core.mips.search_result import SearchResult
from rag_core.model_files import resolve_device
from schemas import TABLES
from schemas.retrievals import RETRIEVED_PASSAGE

_QUESTIONS_AT_ONCE = 500  # whose passages' texts are in memory together
_RESULTS_AT_ONCE = 10_000


class SearchIndex(Work):
    """Finds the rows of the top K passages for blocks of encoded questions.

    Each tile is a source: its rows are all questions in order.
    """

    runs_model = True  # its products are computed where the encoder runs

    def __init__(
        self,
        index_folder: str,
        vectors_folder: str,
        *,
        n_docs: int,
        question_block: int,
        shard_tiles: int,
        effort: dict[str, int] | None,
        memory_bytes: int,
        num_threads: int,
        device: str,
        shard_cache: ShardCache = DEFAULT_CACHE,
    ):
        """Stores the settings.

        Args:
          shard_tiles: into how many groups the shards are divided where questions make one block;
            fewer where they make more.
          effort: of an approximate search, `Effort.to_json`; None: the search is exact.
        """
        self._index_folder = index_folder
        self._vectors_folder = vectors_folder
        self._n_docs = n_docs
        self._question_block = question_block
        self._shard_tiles = shard_tiles
        self._effort = effort
        self._memory_bytes = memory_bytes
        self._num_threads = num_threads
        self._device = device
        self._shard_cache = shard_cache

    def plan(self) -> Iterator[Unit]:
        questions = open_dataset(STORAGE, self._vectors_folder, "question_vectors")
        shards = len(index_manifest(self._index_folder).details["index"]["shards"])
        begins = range(0, questions.rows, self._question_block)
        tiles = max(1, min(shards, self._shard_tiles // len(begins)))
        edges = [shards * tile // tiles for tile in range(tiles + 1)]
        for tile in range(tiles):
            for number, begin in enumerate(begins):
                end = min(begin + self._question_block, questions.rows)
                content = {"begin": begin, "end": end, "shards": [edges[tile], edges[tile + 1]]}
                yield Unit(tile, number, content, (self._vectors_folder,), records=end - begin)

    def load(self) -> MipsIndex:
        limit_threads(self._num_threads)
        return open_index(self._index_folder, self._shard_cache)

    def compute(self, unit: Unit, loaded: MipsIndex, writer: UnitWriter) -> None:
        questions = open_dataset(STORAGE, self._vectors_folder, "question_vectors")
        batches = questions.read(STORAGE, begin=unit.content["begin"], end=unit.content["end"])
        vectors = np.concatenate([vector_matrix(batch.column("vector"), questions.path) for batch in batches])
        found = loaded.search(
            vectors,
            self._n_docs,
            memory_bytes=self._memory_bytes,
            shards=range(*unit.content["shards"]),
            effort=None if self._effort is None else Effort(**self._effort),
            exact=self._effort is None,
            device=resolve_device(self._device),
        )
        for begin in range(0, len(vectors), _RESULTS_AT_ONCE):
            part = slice(begin, begin + _RESULTS_AT_ONCE)
            writer.write(results_batch(SearchResult(found.scores[part], found.rows[part])))
        writer.read(len(vectors))
        writer.accept(len(vectors))


class TakePassages(Work):
    """Merges the tiles' results of each question and takes the passages from the index."""

    def __init__(
        self,
        index_folder: str,
        questions_folder: str,
        results_folder: str,
        *,
        n_docs: int,
        unit_rows: int,
        questions_table: str = "question_vectors",
        shard_cache: ShardCache = DEFAULT_CACHE,
    ):
        """Stores the settings.

        Args:
          questions_folder: what was searched for, of which the questions' columns are taken.
          questions_table: the table that it holds.
        """
        self._index_folder = index_folder
        self._questions_folder = questions_folder
        self._questions_table = questions_table
        self._results_folder = results_folder
        self._n_docs = n_docs
        self._unit_rows = unit_rows
        self._shard_cache = shard_cache

    def plan(self) -> Iterator[Unit]:
        questions = open_dataset(STORAGE, self._questions_folder, self._questions_table)
        yield from row_units(self._questions_folder, questions.rows, self._unit_rows)

    def load(self) -> MipsIndex:
        return open_index(self._index_folder, self._shard_cache)

    def compute(self, unit: Unit, loaded: MipsIndex, writer: UnitWriter) -> None:
        questions = open_dataset(STORAGE, self._questions_folder, self._questions_table)
        results = open_dataset(STORAGE, self._results_folder, "search_results")
        for begin in range(unit.content["begin"], unit.content["end"], _QUESTIONS_AT_ONCE):
            end = min(begin + _QUESTIONS_AT_ONCE, unit.content["end"])
            found = self._merged(loaded, results, questions.rows, begin, end)
            asked = pa.Table.from_batches(questions.read(STORAGE, begin=begin, end=end))
            there = found.rows >= 0  # an approximate search may have found fewer
            passages = loaded.passages(found.rows[there])
            writer.write(
                _retrievals(
                    asked.select(TABLES["questions"].names), passages, found.scores[there], there.sum(axis=1)
                )
            )
            writer.read(end - begin)
            writer.accept(end - begin)

    def _merged(
        self, index: MipsIndex, results: Dataset, questions: int, begin: int, end: int
    ) -> SearchResult:
        tiles = []
        for first in range(0, results.rows, questions):  # a tile's results are those of all questions
            batches = results.read(STORAGE, begin=first + begin, end=first + end)
            tiles.append(_search_result(pa.Table.from_batches(batches)))
        return tiles[0] if len(tiles) == 1 else index.merge(tiles, self._n_docs)


def open_index(folder: str, shard_cache: ShardCache = DEFAULT_CACHE) -> MipsIndex:
    """A finished index, ready to be searched.

    Raises:
      UsageError: see `index_manifest` and `MipsIndex.open`.
    """
    return MipsIndex.open(shard_cache.storage(), folder, index_manifest(folder).details["index"])


def results_batch(found: SearchResult) -> pa.RecordBatch:
    """Rows of the search results table."""
    count, n_docs = found.rows.shape
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * n_docs)
    schema = TABLES["search_results"]
    columns = [
        pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)), type=field.type)
        for values, field in zip((found.rows, found.scores), schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _search_result(results: pa.Table) -> SearchResult:
    rows, scores = (
        results.column(name)
        .combine_chunks()
        .flatten()
        .to_numpy(zero_copy_only=False)
        .reshape(len(results), -1)
        for name in ("rows", "scores")
    )
    return SearchResult(scores, rows)


def _retrievals(
    questions: pa.Table, passages: pa.Table, scores: np.ndarray, counts: np.ndarray
) -> pa.RecordBatch:
    """Rows of the retrievals table.

    Args:
      questions: Q questions.
      passages: theirs, question by question.
      scores: float32, one a passage.
      counts: int64 [Q], how many passages each question has.
    """
    columns = [*(passages.column(name) for name in RETRIEVED_PASSAGE.names[:-1]), pa.array(scores)]
    structs = pa.StructArray.from_arrays(
        [column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column for column in columns],
        fields=list(RETRIEVED_PASSAGE),
    )
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    lists = pa.ListArray.from_arrays(offsets, structs, type=TABLES["retrievals"].field("passages").type)
    merged = questions.combine_chunks().append_column(TABLES["retrievals"].field("passages"), lists)
    return merged.cast(TABLES["retrievals"]).to_batches()[0]
