"""BM25 against the formula, word by word in float64."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_core.bm25 import Bm25

PASSAGES = [
    "Paris is the capital of France, and Paris lies on the Seine.",
    "Berlin is the capital of Germany",
    "The Seine is a river",
    "A river, a river: the longest river of all rivers",
    "Gold",
]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def score(question: str, passage: str, passages: list[str], k1: float, b: float) -> float:
    """Oracle: the sum of the module's docstring."""
    mean = sum(len(words(text)) for text in passages) / len(passages)
    total = 0.0
    for word in words(question):
        holding = sum(word in words(text) for text in passages)
        count = words(passage).count(word)
        if count:
            idf = math.log(1 + (len(passages) - holding + 0.5) / (holding + 0.5))
            total += idf * count / (count + k1 * (1 - b + b * len(words(passage)) / mean))
    return total


def make(passages: list[str], k1: float = 0.9, b: float = 0.4) -> Bm25:
    return Bm25(
        passages, np.arange(len(passages)), k1=k1, b=b, ids_of=lambda rows: [f"p{row:03d}" for row in rows]
    )


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.2, 0.75), (0.0, 0.0), (2.0, 1.0)])
@pytest.mark.parametrize("question", ["capital of France", "the river river Seine", "gold silver", "PARIS!"])
def test_scores_and_order_are_the_formulas(question: str, k1: float, b: float) -> None:
    exact = [score(question, passage, PASSAGES, k1, b) for passage in PASSAGES]
    found = make(PASSAGES, k1, b).search([question], len(PASSAGES))
    there = found.rows[0] >= 0
    np.testing.assert_allclose(
        found.scores[0][there], [exact[row] for row in found.rows[0][there]], rtol=1e-5
    )
    assert set(found.rows[0][there].tolist()) == {row for row, value in enumerate(exact) if value > 0}
    assert (np.diff(found.scores[0][there]) <= 0).all()


@settings(deadline=None, max_examples=60)
@given(
    passages=st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=6), min_size=1, max_size=12),
    question=st.lists(st.sampled_from("abcdef"), max_size=4),
    n_docs=st.integers(1, 14),
)
def test_the_best_passages_are_found_and_ties_are_by_id(
    passages: list[list[str]], question: list[str], n_docs: int
) -> None:
    texts = [" ".join(passage) for passage in passages]
    bm25 = make(texts)
    everything = bm25.search([" ".join(question)], len(texts))
    found = bm25.search([" ".join(question)], n_docs)
    width = min(n_docs, len(texts))
    assert found.rows[0, :width].tolist() == everything.rows[0, :width].tolist()
    assert (found.rows[0, width:] == -1).all()
    there = everything.rows[0] >= 0
    pairs = list(
        zip((-everything.scores[0][there]).tolist(), everything.rows[0][there].tolist(), strict=True)
    )
    assert pairs == sorted(pairs)  # here rows sort as their ids do


def test_a_question_without_a_known_word_finds_nothing() -> None:
    found = make(PASSAGES).search(["zyx", "", "gold"], 2)
    assert found.rows.tolist() == [[-1, -1], [-1, -1], [4, -1]]
    assert np.isneginf(found.scores[0]).all()


def test_rows_are_called_as_the_caller_calls_them() -> None:
    bm25 = Bm25(
        ["gold", "silver"], np.array([7, 9]), k1=0.9, b=0.4, ids_of=lambda rows: [str(row) for row in rows]
    )
    assert bm25.search(["silver"], 1).rows.tolist() == [[9]]
