"""Order by (−score, passage id), and the merge of results over disjoint rows."""

import numpy as np
import pytest

from rag_core.mips.search_result import SearchResult, merge_top_k, rank

IDS = {0: "d", 1: "a", 2: "c", 3: "b", 4: "A", 5: "é"}


def ids_of(rows: np.ndarray) -> list[str]:
    return [IDS[row] for row in rows.tolist()]


def result(scores: list[list[float]], rows: list[list[int]]) -> SearchResult:
    return SearchResult(np.array(scores, np.float32), np.array(rows, np.int64))


def test_ties_go_by_id_in_code_point_order() -> None:
    found = rank(np.full((1, 6), 2.0, np.float32), np.arange(6)[None], 6, ids_of)
    assert found.rows.tolist() == [[4, 1, 3, 2, 0, 5]]


def test_a_tie_across_the_last_place_is_decided_by_id() -> None:
    scores = np.array([[1.0, 3.0, 1.0, 1.0]], np.float32)
    found = rank(scores, np.array([[0, 2, 3, 1]]), 2, ids_of)
    assert found.rows.tolist() == [[2, 1]]
    assert found.scores.tolist() == [[3.0, 1.0]]


def test_ids_are_read_only_for_ties_that_matter() -> None:
    asked: list[list[int]] = []

    def record(rows: np.ndarray) -> list[str]:
        asked.append(sorted(rows.tolist()))
        return ids_of(rows)

    scores = np.array([[5.0, 4.0, 4.0, 1.0, 1.0], [5.0, 4.0, 3.0, 2.0, 1.0]], np.float32)
    rank(scores, np.array([[0, 1, 2, 3, 4]] * 2), 3, record)
    assert asked == [[1, 2]]


def test_merge_of_tiles_narrower_than_n_docs_keeps_all_rows() -> None:
    merged = merge_top_k([result([[2.0]], [[0]]), result([[3.0, 2.0]], [[2, 3]])], 10, ids_of)
    assert merged.rows.tolist() == [[2, 3, 0]]
    assert merged.scores.tolist() == [[3.0, 2.0, 2.0]]


@pytest.mark.parametrize("n_docs", [1, 2, 3])
def test_merge_does_not_depend_on_the_order_of_tiles(n_docs) -> None:
    tiles = [result([[1.0]], [[5]]), result([[1.0, 0.0]], [[1, 0]]), result([[2.0, 1.0]], [[2, 4]])]
    forward, backward = merge_top_k(tiles, n_docs, ids_of), merge_top_k(tiles[::-1], n_docs, ids_of)
    assert forward.rows.tolist() == backward.rows.tolist() == [[2, 4, 1][:n_docs]]
