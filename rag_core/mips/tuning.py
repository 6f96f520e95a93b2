"""How hard an approximate index must look: efforts tried on sampled questions against the exact search."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import faiss
import numpy as np

from rag_core.mips.approximate import Effort, candidates
from rag_core.mips.factory import Factory, hnsw_graph, inverted_file
from rag_core.mips.index import MipsIndex
from rag_core.mips.price import recall
from rag_core.mips.search_result import SearchResult

_LARGEST_EF_SEARCH = 2048
_REFINE_FACTORS = (2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class Sample:
    """Questions with their exact results, to tune on or to measure by.

    Attributes:
      questions: float32 [B, D].
      own_rows: int64 [B], the row of the index that each question is the vector of, not to be counted
        as found; −1 where it is of none.
      exact: the best documents of each, own rows left out.
    """

    questions: np.ndarray
    own_rows: np.ndarray
    exact: SearchResult

    @classmethod
    def take(
        cls, index: MipsIndex, questions: np.ndarray, own_rows: np.ndarray, n_docs: int, memory_bytes: int
    ) -> "Sample":
        """Searches exactly for the `n_docs` best documents of the questions."""
        found = index.search(questions, n_docs + 1, memory_bytes=memory_bytes, exact=True)
        return cls(questions, own_rows, without_own(found, own_rows, n_docs))

    def part(self, where: slice) -> "Sample":
        """Some of the questions."""
        exact = SearchResult(self.exact.scores[where], self.exact.rows[where])
        return Sample(self.questions[where], self.own_rows[where], exact)

    def search(self, index: MipsIndex, effort: Effort, n_docs: int, memory_bytes: int) -> SearchResult:
        """The approximate result, own rows left out."""
        found = index.search(self.questions, n_docs + 1, memory_bytes=memory_bytes, effort=effort)
        return without_own(found, self.own_rows, n_docs)


@dataclass(frozen=True, slots=True)
class Trial:
    """A line of the table that an effort, or a factory, is chosen from.

    Attributes:
      recall: over the sampled questions.
      recall_low: the lower end of its 95 % interval: a floor holds for other questions too when this
        is above it.
      questions_per_second: by the clock, of the sampled ones together.
      bytes_read: of codes and of stored vectors, for a question, by count: the same on every machine.
    """

    factory: str
    effort: Effort | None
    recall: float
    recall_low: float
    questions_per_second: float
    bytes_per_vector: float
    bytes_read: float

    def to_json(self) -> dict[str, object]:
        effort = None if self.effort is None else self.effort.to_json()
        return {
            "factory": self.factory,
            "effort": effort,
            "recall": self.recall,
            "recall_low": self.recall_low,
            "questions_per_second": self.questions_per_second,
            "bytes_per_vector": self.bytes_per_vector,
            "bytes_read": self.bytes_read,
        }


def tune(
    index: MipsIndex,
    factory: Factory,
    sample: Sample,
    *,
    min_recall: float,
    recall_at: int,
    memory_bytes: int,
) -> list[Trial]:
    """Tries rising efforts until `min_recall` is surely reached, for each refine factor.

    Args:
      index: an approximate index.
      factory: what it was made by.
      sample: exact results of at least `recall_at` documents, where the index has so many.
    """
    trials: list[Trial] = []
    bytes_per_vector = index.code_bytes / index.rows
    sample.search(index, Effort(), recall_at, memory_bytes)  # loads the codes
    empty = factory.empty()
    stored_bytes = index.dimension * np.dtype(index.shards[0].vector_dtype).itemsize
    for refine_factor in _REFINE_FACTORS if factory.refines else (1,):
        for effort in _ladder(empty, refine_factor):
            began = time.perf_counter()
            found = sample.search(index, effort, recall_at, memory_bytes)
            rate = len(sample.questions) / (time.perf_counter() - began)
            reached = recall(found, sample.exact, recall_at)
            read = _codes_read(index, empty, effort) * bytes_per_vector
            read += candidates(effort, recall_at, index.live_rows) * stored_bytes
            trials.append(
                Trial(factory.text, effort, reached.value, reached.ci_low, rate, bytes_per_vector, read)
            )
            if reached.ci_low >= min_recall:
                break
    return trials


def choose_effort(trials: Sequence[Trial], min_recall: float) -> Trial:
    """Of one factory: who surely reaches the recall and reads least; the best recall where none does.

    What is found depends on the effort, so it is chosen by count and not by the clock: a busy machine gives
    the same index as a free one.
    """
    reached = _reaching(trials, min_recall)
    return min(reached, key=lambda trial: trial.bytes_read) if reached else _most_found(trials)


def quickest_factory(trials: Sequence[Trial], min_recall: float) -> Trial:
    """Of several factories: the quickest that surely reaches the recall; the best recall where none does."""
    reached = _reaching(trials, min_recall)
    return max(reached, key=lambda trial: trial.questions_per_second) if reached else _most_found(trials)


def _reaching(trials: Sequence[Trial], min_recall: float) -> list[Trial]:
    return [trial for trial in trials if trial.recall_low >= min_recall]


def _most_found(trials: Sequence[Trial]) -> Trial:
    return max(trials, key=lambda trial: trial.recall)


def table(trials: Sequence[Trial], recall_at: int) -> Iterator[str]:
    """Trials as lines for people."""
    yield (
        f"{'factory':<32}{'nprobe':>8}{'ef':>6}{'refine':>8}{f'recall@{recall_at}':>12}{'questions/s':>13}"
        f"{'bytes':>8}"
    )
    for trial in trials:
        effort = trial.effort
        shown = (
            f"{'':>22}"
            if effort is None
            else f"{effort.nprobe:>8}{effort.ef_search:>6}{effort.refine_factor:>8}"
        )
        yield (
            f"{trial.factory:<32}{shown}{trial.recall:>12.4f}{trial.questions_per_second:>13,.0f}"
            f"{trial.bytes_per_vector:>8.0f}"
        )


def without_own(found: SearchResult, own_rows: np.ndarray, n_docs: int) -> SearchResult:
    """The first `n_docs` of each question's documents, its own row left out."""
    other = found.rows != own_rows[:, None]
    other |= found.rows < 0
    order = np.argsort(~other, axis=1, kind="stable")[:, : min(n_docs, max(1, found.rows.shape[1] - 1))]
    rows = np.take_along_axis(found.rows, order, axis=1)
    return SearchResult(np.take_along_axis(found.scores, order, axis=1), rows)


def _ladder(empty: faiss.Index, refine_factor: int) -> Iterator[Effort]:
    """Efforts that an index of this kind knows, each about twice the one before."""
    ivf = inverted_file(empty)
    if ivf is not None:
        nprobe = 1
        while nprobe < ivf.nlist:
            yield Effort(nprobe=nprobe, refine_factor=refine_factor)
            nprobe *= 2
        yield Effort(nprobe=ivf.nlist, refine_factor=refine_factor)
    elif hnsw_graph(empty) is not None:
        ef_search = 16
        while ef_search <= _LARGEST_EF_SEARCH:
            yield Effort(ef_search=ef_search, refine_factor=refine_factor)
            ef_search *= 2
    else:
        yield Effort(refine_factor=refine_factor)


def _codes_read(index: MipsIndex, empty: faiss.Index, effort: Effort) -> float:
    """How many vectors' codes are looked at for a question: of an inverted file the mean over its lists."""
    ivf, graph = inverted_file(empty), hnsw_graph(empty)
    if ivf is not None:
        return index.rows * effort.nprobe / ivf.nlist
    if graph is not None:
        # the neighbours of each vector in the queue
        return float(effort.ef_search * graph.nb_neighbors(0))
    return float(index.rows)
