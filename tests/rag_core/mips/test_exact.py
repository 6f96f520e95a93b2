"""Exact search against the float64 matrix product: rows and scores identical, however it is cut up.

The vectors are fixed-point numbers, so that float64 sums are exact in any order and the reference is
beyond doubt, while float32 sums are not exact.
"""

import math
import re
import tempfile
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_core.errors import UsageError
from rag_core.mips import exact
from rag_core.mips.search_result import SearchResult
from tests.rag_core.mips.small_index import assert_same, open_index, reference_search, write_index

MEGABYTE = 2**20


def fixed_point(rng: np.random.Generator, shape: tuple[int, ...], step: float, largest: float) -> np.ndarray:
    """Float32 multiples of `step` within ±`largest`."""
    units = round(largest / step)
    return (rng.integers(-units, units + 1, shape) * step).astype(np.float32)


def make_vectors(rng: np.random.Generator, kind: str, rows: int, dimension: int, dtype: str) -> np.ndarray:
    match kind:
        case "spread":
            vectors = fixed_point(rng, (rows, dimension), 2**-8, 4)
        case "few values":  # scores tie often
            vectors = rng.integers(-1, 2, (rows, dimension)).astype(np.float32)
        case "duplicates":
            vectors = fixed_point(rng, (max(1, rows // 20), dimension), 2**-8, 4)
            vectors = vectors[rng.integers(0, len(vectors), rows)]
        case "near ties":  # scores differ by less than a float32 product resolves, or than float32 itself
            vectors = np.repeat(fixed_point(rng, (1, dimension), 2**-8, 2), rows, axis=0)
            vectors[:, 0] += fixed_point(rng, (rows,), 2**-20, 2**-18)
        case "zeros":
            vectors = np.zeros((rows, dimension), dtype=np.float32)
        case _:
            raise ValueError(kind)
    return vectors.astype(dtype)


def least_memory(index, n_docs: int, dimension: int) -> int:
    """What the error for too little memory says is enough."""
    with pytest.raises(UsageError, match="at least") as error:
        index.search(np.zeros((1, dimension), np.float32), n_docs, memory_bytes=0)
    return int(re.search(r"at least (\d+) bytes", str(error.value)).group(1))


any_tiling = given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["spread", "few values", "duplicates", "near ties", "zeros"]),
    dtype=st.sampled_from(["float16", "float32"]),
    rows=st.integers(1, 400),
    dimension=st.sampled_from([1, 2, 3, 7, 16, 33, 128, 384, 1024]),
    n_questions=st.integers(1, 25),
    n_docs=st.sampled_from([1, 2, 5, 50, 130, 500]),
    cuts=st.lists(st.floats(0, 1), max_size=4),
    memory=st.sampled_from([1, 1.5, 4, 40, None]),
)


@settings(deadline=None, max_examples=20)
@any_tiling
def test_equals_float64_for_any_tiling(
    seed, kind, dtype, rows, dimension, n_questions, n_docs, cuts, memory
) -> None:
    rng = np.random.default_rng(seed)
    vectors = make_vectors(rng, kind, rows, dimension, dtype)
    questions = fixed_point(rng, (n_questions, dimension), 2**-10, 2)
    ids = [f"{'é' if number % 3 else 'z'}{number}" for number in rng.permutation(rows)]
    bounds = sorted({round(cut * rows) for cut in cuts} - {0, rows})
    expected = reference_search(ids, vectors, questions, n_docs)
    with tempfile.TemporaryDirectory() as folder:
        index = open_index(folder, write_index(folder, ids, vectors, bounds, batch_rows=77))
        least = least_memory(index, n_docs, dimension)
        memory_bytes = 64 * MEGABYTE if memory is None else int(least * memory)

        assert_same(index.search(questions, n_docs, memory_bytes=memory_bytes), expected)

        shards = range(len(index.shards))
        tiles = [index.search(questions, n_docs, memory_bytes=memory_bytes, shards=[n]) for n in shards]
        assert_same(index.merge(tiles[::-1], n_docs), expected)
        for cut in shards[1:]:  # associative: any bracketing
            halves = [index.merge(tiles[:cut], n_docs), index.merge(tiles[cut:], n_docs)]
            assert_same(index.merge(halves, n_docs), expected)


test_equals_float64_for_any_tiling_in_many_cases = pytest.mark.slow(
    settings(deadline=None, max_examples=400)(
        any_tiling(test_equals_float64_for_any_tiling.hypothesis.inner_test)
    )
)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_ten_thousand_identical_vectors_come_in_the_order_of_ids(tmp_path, dtype) -> None:
    rng = np.random.default_rng(5)
    vectors = np.repeat(fixed_point(rng, (1, 24), 2**-8, 4), 10_000, axis=0).astype(dtype)
    vectors[4321] *= 2  # best or worst
    ids = [f"{number:05d}" for number in rng.permutation(10_000)]
    questions = fixed_point(rng, (3, 24), 2**-10, 2)
    index = open_index(str(tmp_path), write_index(str(tmp_path), ids, vectors, [17, 5000]))

    found = index.search(questions, 20, memory_bytes=MEGABYTE)

    assert_same(found, reference_search(ids, vectors, questions, 20))


def test_the_second_pass_is_needed_for_near_ties_and_not_for_spread_vectors(tmp_path, monkeypatch) -> None:
    """Holds that the properties above exercise the second pass, and that ordinary data does not pay for it."""
    unsettled: list[int] = []
    settle = exact._Search._settle

    def count(self, questions: np.ndarray, result: SearchResult) -> None:
        unsettled.append(len(questions))
        settle(self, questions, result)

    monkeypatch.setattr(exact._Search, "_settle", count)
    rng = np.random.default_rng(6)
    questions = fixed_point(rng, (20, 64), 2**-10, 2)
    ids = [f"{number:05d}" for number in range(5000)]
    for kind, expected in {"spread": 0, "near ties": 20}.items():
        unsettled.clear()
        vectors = make_vectors(rng, kind, 5000, 64, "float32")
        folder = str(tmp_path / kind)
        index = open_index(folder, write_index(folder, ids, vectors))
        assert_same(
            index.search(questions, 10, memory_bytes=MEGABYTE),
            reference_search(ids, vectors, questions, 10),
        )
        assert sum(unsettled) == expected


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e17, 3e18, 1e20, 2e38])
def test_scores_below_and_above_the_range_of_float32(tmp_path, scale) -> None:
    rng = np.random.default_rng(7)
    vectors = (rng.integers(-3, 4, (500, 6)) * 0.25).astype(np.float32) * np.float32(scale)
    questions = (rng.integers(-3, 4, (8, 6)) * 0.25).astype(np.float32) * np.float32(min(scale, 1e19))
    ids = [f"{number:03d}" for number in rng.permutation(500)]
    index = open_index(str(tmp_path), write_index(str(tmp_path), ids, vectors, [250]))

    found = index.search(questions, 7, memory_bytes=MEGABYTE)

    with np.errstate(over="ignore"):
        assert_same(found, reference_search(ids, vectors, questions, 7))


def test_cancelling_sums_are_exact(tmp_path) -> None:
    """Terms of very different size, where a float64 sum depends on its order: compared with fsum."""
    rng = np.random.default_rng(8)
    vectors = (rng.standard_normal((300, 12)) * 10.0 ** rng.integers(-12, 12, (300, 12))).astype(np.float32)
    vectors[:, 6:] = -vectors[:, :6] * (1 + np.float32(2**-20))
    questions = np.ones((2, 12), dtype=np.float32)
    ids = [f"{number:03d}" for number in range(300)]
    index = open_index(str(tmp_path), write_index(str(tmp_path), ids, vectors, [100]))

    found = index.search(questions, 30, memory_bytes=MEGABYTE)

    scores = np.array([math.fsum(row) for row in vectors.astype(np.float64).tolist()], dtype=np.float32)
    rows = np.lexsort((np.array(ids), -scores))[:30]
    assert_same(found, SearchResult(np.stack([scores[rows]] * 2), np.stack([rows] * 2)))


def test_more_documents_than_rows_gives_all_rows(tmp_path) -> None:
    vectors = np.arange(5, dtype=np.float32)[:, None]
    index = open_index(str(tmp_path), write_index(str(tmp_path), list("abcde"), vectors, [2]))
    found = index.search(np.array([[2.0]], np.float32), 100, memory_bytes=MEGABYTE)
    assert found.rows.tolist() == [[4, 3, 2, 1, 0]]
    assert found.scores.tolist() == [[8.0, 6.0, 4.0, 2.0, 0.0]]


def test_no_questions_gives_no_rows(tmp_path) -> None:
    index = open_index(str(tmp_path), write_index(str(tmp_path), ["a", "b"], np.ones((2, 3), np.float32)))
    found = index.search(np.empty((0, 3), np.float32), 2, memory_bytes=MEGABYTE)
    assert found.rows.shape == found.scores.shape == (0, 2)


def test_allocations_stay_within_memory_bytes(tmp_path) -> None:
    rng = np.random.default_rng(9)
    vectors = fixed_point(rng, (10_000, 64), 2**-8, 4).astype(np.float16)
    ids = [f"{number:05d}" for number in range(len(vectors))]
    index = open_index(str(tmp_path), write_index(str(tmp_path), ids, vectors, batch_rows=5000))
    questions = fixed_point(rng, (1500, 64), 2**-10, 2)
    index.search(questions[:1], 20, memory_bytes=MEGABYTE)  # proves the files, imports what is imported late
    for memory_bytes in (MEGABYTE, 4 * MEGABYTE):
        tracemalloc.start()
        found = index.search(questions, 20, memory_bytes=memory_bytes)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < memory_bytes + found.scores.nbytes + found.rows.nbytes


def test_least_memory_is_what_the_error_says(tmp_path) -> None:
    index = open_index(str(tmp_path), write_index(str(tmp_path), ["a", "b"], np.ones((2, 8), np.float16)))
    least = least_memory(index, 2, 8)
    question = np.ones((1, 8), np.float32)
    assert index.search(question, 2, memory_bytes=least).scores.tolist() == [[8.0, 8.0]]
    with pytest.raises(UsageError, match=f"--memory_bytes {least - 1}.*at least {least} bytes"):
        index.search(question, 2, memory_bytes=least - 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_question_that_is_not_finite_is_named(tmp_path, bad) -> None:
    index = open_index(str(tmp_path), write_index(str(tmp_path), ["a"], np.ones((1, 3), np.float32)))
    questions = np.ones((4, 3), np.float32)
    questions[2, 1] = bad
    with pytest.raises(ValueError, match="row 2"):
        index.search(questions, 1, memory_bytes=MEGABYTE)


def test_questions_of_another_dimension_and_no_documents_are_refused(tmp_path) -> None:
    index = open_index(str(tmp_path), write_index(str(tmp_path), ["a"], np.ones((1, 3), np.float32)))
    with pytest.raises(ValueError, match=r"\[B, 3\], got \[1, 4\]"):
        index.search(np.ones((1, 4), np.float32), 1, memory_bytes=MEGABYTE)
    with pytest.raises(ValueError, match="n_docs"):
        index.search(np.ones((1, 3), np.float32), 0, memory_bytes=MEGABYTE)
