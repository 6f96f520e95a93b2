"""Questions through an index by their words: `retrieve --retriever bm25`.

    questions ─SearchWords─▶ search results ─TakePassages─▶ retrievals

No vectors take part.
"""

from collections.abc import Iterator

from pipelines.dataset.reader import open_dataset
from pipelines.dataset.unit import Unit, UnitWriter, row_units
from pipelines.filesystems import DEFAULT_CACHE, STORAGE, ShardCache
from pipelines.transforms.search import open_index, results_batch
from pipelines.transforms.units import Work
from rag_core.bm25 import Bm25

_PASSAGES_AT_ONCE = 10_000
_QUESTIONS_AT_ONCE = 1_000


class SearchWords(Work):
    """Finds the rows of the top K passages for blocks of questions, by BM25 over titles and texts.

    Each worker process counts the words of all passages and holds them: 8 bytes a word.
    """

    def __init__(
        self,
        index_folder: str,
        questions_folder: str,
        *,
        n_docs: int,
        question_block: int,
        k1: float,
        b: float,
        shard_cache: ShardCache = DEFAULT_CACHE,
    ):
        self._index_folder = index_folder
        self._questions_folder = questions_folder
        self._n_docs = n_docs
        self._question_block = question_block
        self._k1 = k1
        self._b = b
        self._shard_cache = shard_cache

    def plan(self) -> Iterator[Unit]:
        questions = open_dataset(STORAGE, self._questions_folder, "questions")
        yield from row_units(self._questions_folder, questions.rows, self._question_block)

    def load(self) -> Bm25:
        index = open_index(self._index_folder, self._shard_cache)
        live = index.live
        passages: list[str] = []
        for begin in range(0, len(live), _PASSAGES_AT_ONCE):
            taken = index.passages(live[begin : begin + _PASSAGES_AT_ONCE])
            titles, texts = (taken.column(name).to_pylist() for name in ("title", "text"))
            passages += [f"{title} {text}" for title, text in zip(titles, texts, strict=True)]
        return Bm25(passages, live, k1=self._k1, b=self._b, ids_of=index.passage_ids)

    def compute(self, unit: Unit, loaded: Bm25, writer: UnitWriter) -> None:
        questions = open_dataset(STORAGE, self._questions_folder, "questions")
        for batch in questions.read(
            STORAGE, begin=unit.content["begin"], end=unit.content["end"], batch_rows=_QUESTIONS_AT_ONCE
        ):
            writer.write(results_batch(loaded.search(batch.column("question").to_pylist(), self._n_docs)))
            writer.read(batch.num_rows)
            writer.accept(batch.num_rows)
