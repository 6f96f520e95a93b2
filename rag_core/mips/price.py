"""What an approximate index costs and what it misses, measured against the exact search."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rag_core.metrics.bootstrap import Bootstrap
from rag_core.mips.search_result import SearchResult

RECALL_AT = (1, 5, 20, 100)


@dataclass(frozen=True, slots=True)
class Recall:
    """Mean share of the exact search's best `k` documents that were found, over `questions`.

    A document with the K-th score counts like the K-th: among duplicates any will do.

    Attributes:
      k: documents asked for.
      value: in [0, 1].
      ci_low, ci_high: 95 % bootstrap interval of the mean.
      questions: how many the mean is over.
    """

    k: int
    value: float
    ci_low: float
    ci_high: float
    questions: int

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def recall(found: SearchResult, exact: SearchResult, k: int) -> Recall:
    """Recall at `k` of a search, both results over the same questions and at least `k` documents wide.

    Where the index holds fewer than `k` documents, all of them are asked for.
    """
    k = min(k, exact.scores.shape[1])
    hits = (found.rows[:, :k] >= 0) & (found.scores[:, :k] >= exact.scores[:, k - 1 : k])
    shares = hits.sum(axis=1) / k
    low, high = Bootstrap().mean_interval(shares)
    return Recall(k, float(shares.mean()), low, high, len(shares))


@dataclass(frozen=True, slots=True)
class Price:
    """An approximate index's price, as its manifest states it.

    Attributes:
      questions: where the sampled questions came from.
      recalls: recall at each of `RECALL_AT`, as far as the index has documents.
      code_bytes_per_vector: of the FAISS files; searching holds them in memory.
      stored_bytes_per_vector: of the vectors on disk that candidates are scored from.
      build_seconds: training and filling, summed over workers.
      peak_bytes: largest anonymous memory of a worker while it trained or filled.
    """

    questions: str
    recalls: Sequence[Recall]
    code_bytes_per_vector: float
    stored_bytes_per_vector: float
    build_seconds: float
    peak_bytes: int

    def to_json(self) -> Mapping[str, object]:
        return asdict(self)
