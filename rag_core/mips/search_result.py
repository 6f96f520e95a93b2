"""Search results and their order: by (−score, passage_id), whatever order rows are found in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# (rows: int64 [n]) -> their passage ids; asked only where scores tie, so that ids can stay on disk
IdsOf = Callable[[np.ndarray], Sequence[str]]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The K best rows for each of B questions, best first, ties by passage id.

    Attributes:
      scores: float32 [B, K], the inner product of the stored vectors rounded once.
      rows: int64 [B, K], rows of the whole index; −1, with the score −inf, in the last places of a
        question for which an approximate search found fewer.
    """

    scores: np.ndarray
    rows: np.ndarray


def best_columns(products: np.ndarray, rows: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The `width` columns with the largest products of each row, in no order."""
    if products.shape[1] <= width:
        return products, rows
    kept = np.argpartition(products, -width, axis=1)[:, -width:]
    return np.take_along_axis(products, kept, axis=1), np.take_along_axis(rows, kept, axis=1)


def no_result(questions: int) -> SearchResult:
    """Nothing, for so many questions: scores and rows [B, 0]."""
    return SearchResult(np.empty((questions, 0), dtype=np.float32), np.empty((questions, 0), dtype=np.int64))


def rank(scores: np.ndarray, rows: np.ndarray, n_docs: int, ids_of: IdsOf) -> SearchResult:
    """Orders each question's candidates and keeps the first `n_docs`.

    Args:
      scores: float32 [B, C].
      rows: int64 [B, C], distinct within a question, or −1.
      n_docs: K; all C are kept where C is smaller.
      ids_of: gives passage ids, which decide among equal scores.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    scores = np.take_along_axis(scores, order, axis=1)
    rows = np.take_along_axis(rows, order, axis=1)
    ties = (scores[:, 1:] == scores[:, :-1]) & (rows[:, 1:] >= 0) & (rows[:, :-1] >= 0)
    for question in np.flatnonzero(ties[:, :n_docs].any(axis=1)):
        for start, stop in _runs(ties[question]):
            if start < n_docs:
                tied = rows[question, start:stop]
                ids = ids_of(tied)
                rows[question, start:stop] = tied[sorted(range(len(tied)), key=ids.__getitem__)]
    return SearchResult(scores[:, :n_docs].copy(), rows[:, :n_docs].copy())


def merge_top_k(results: Sequence[SearchResult], n_docs: int, ids_of: IdsOf) -> SearchResult:
    """The search result over several disjoint sets of rows from the results over each.

    Exact and associative: each input holds its set's best `n_docs` (or all its rows), so nothing
    that belongs into the result is missing, and the order does not depend on the sets.
    """
    scores = np.concatenate([result.scores for result in results], axis=1)
    rows = np.concatenate([result.rows for result in results], axis=1)
    return rank(scores, rows, n_docs, ids_of)


def _runs(ties: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of equal neighbours: `ties[i]` says that i and i + 1 are equal (bool [C − 1])."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ties, [False]]).astype(np.int8)))
    return [(int(start), int(stop) + 1) for start, stop in edges.reshape(-1, 2)]
