"""Recall by hand-worked numbers."""

import numpy as np
import pytest

from rag_core.mips.price import recall
from rag_core.mips.search_result import SearchResult
from rag_core.mips.tuning import without_own


def result(rows: list[list[int]], scores: list[list[float]]) -> SearchResult:
    return SearchResult(np.array(scores, dtype=np.float32), np.array(rows, dtype=np.int64))


EXACT = result([[1, 2, 3], [4, 5, 6]], [[9, 8, 7], [9, 9, 5]])


def test_recall_is_the_mean_share_of_the_best_that_was_found() -> None:
    found = result([[1, 3, 9], [4, 6, -1]], [[9, 7, 1], [9, 5, -np.inf]])
    assert recall(found, EXACT, 1).value == 1.0
    assert recall(found, EXACT, 2).value == pytest.approx(0.5)  # 1 of {1, 2}; 4 of {4, 5}
    assert recall(found, EXACT, 3).value == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_a_document_that_ties_with_the_kth_counts_like_it() -> None:
    found = result([[1, 2, 3], [5, 4, 6]], [[9, 8, 7], [9, 9, 5]])
    assert recall(found, EXACT, 1).value == 1.0


def test_an_index_smaller_than_k_is_asked_for_all_it_has() -> None:
    measured = recall(EXACT, EXACT, 100)
    assert (measured.k, measured.value, measured.questions) == (3, 1.0, 2)


def test_the_interval_holds_the_value_and_narrows_with_questions() -> None:
    def measured(questions: int):
        hits = np.arange(questions) % 4 > 0  # three of four
        rows = np.where(hits, 1, 2)[:, None]
        exact = result([[1]] * questions, [[5.0]] * questions)
        return recall(SearchResult(np.where(hits, 5.0, 1.0).astype(np.float32)[:, None], rows), exact, 1)

    small, large = measured(40), measured(4_000)
    for item in (small, large):
        assert item.value == 0.75
        assert item.ci_low < 0.75 < item.ci_high
    assert large.ci_high - large.ci_low < (small.ci_high - small.ci_low) / 5


def test_a_questions_own_row_is_not_counted_as_found() -> None:
    found = result([[7, 1, 2], [3, 4, 5], [6, -1, -1]], [[9, 8, 7], [9, 8, 7], [9, -np.inf, -np.inf]])
    others = without_own(found, np.array([7, 99, 6]), 2)
    assert others.rows.tolist() == [[1, 2], [3, 4], [-1, -1]]
