"""Exact scores against rational arithmetic, and the error bound against measured errors."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_core.mips.scores import exact_scores, product_error


def rational_product(question: np.ndarray, vector: np.ndarray) -> Fraction:
    return sum(
        (Fraction(float(a)) * Fraction(float(b)) for a, b in zip(question, vector, strict=True)), Fraction(0)
    )


finite = st.floats(-(2.0**50), 2.0**50, width=32)


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 20).flatmap(lambda d: st.lists(st.tuples(finite, finite), min_size=d, max_size=d)))
def test_scores_are_the_real_inner_product_rounded(pairs) -> None:
    question, vector = np.array(pairs, dtype=np.float32).T
    score = exact_scores(question[None], vector[None])
    # a Fraction becomes the nearest float64
    assert score.tolist() == [np.float32(float(rational_product(question, vector)))]


def test_a_sum_at_a_rounding_boundary_is_summed_without_error() -> None:
    """1 + 2⁻²⁴ + 2⁻⁵² is just above half-way between two float32; pairwise sums may lose the last term."""
    vector = np.array([[2.0**-52, 2.0**100, 1.0, -(2.0**100), 2.0**-24]], dtype=np.float32)
    assert exact_scores(np.ones((1, 5), np.float32), vector).tolist() == [1 + 2.0**-23]


def test_minus_zero_is_zero() -> None:
    score = exact_scores(np.array([[-1.0]], np.float32), np.array([[0.0]], np.float16))
    assert not np.signbit(score[0])


@pytest.mark.parametrize("dimension", [1, 8, 384, 1024])
@pytest.mark.parametrize("scale", [1e-22, 1.0, 1e15])
def test_error_bound_holds_for_sequential_sums_and_matrix_products(dimension, scale) -> None:
    rng = np.random.default_rng(dimension)
    questions = (rng.standard_normal((20, dimension)) * scale).astype(np.float32)
    vectors = (rng.standard_normal((50, dimension)) * scale).astype(np.float32)
    vectors[:10] = np.abs(vectors[:10])  # sums that grow, so that every addition rounds
    exact = questions.astype(np.float64) @ vectors.astype(np.float64).T
    max_norm = float(np.linalg.norm(vectors.astype(np.float64), axis=1).max())
    bound = product_error(questions, max_norm)[:, None]
    sequential = np.zeros(exact.shape, dtype=np.float32)
    for component in range(dimension):
        sequential += questions[:, component, None] * vectors[:, component]
    for product in (sequential, questions @ vectors.T):
        assert (np.abs(product - exact) <= bound).all()
    # and is not vacuous: γ_D·‖q‖‖d‖, for D = 1024 some 6e-5 of the largest score possible
    norms = np.linalg.norm(questions.astype(np.float64), axis=1)[:, None]
    assert (bound <= 1.01 * dimension * 2.0**-24 * norms * max_norm + 1e-30).all()


def test_products_that_may_overflow_have_no_bound() -> None:
    assert product_error(np.full((1, 2), 1e20, np.float32), 1e20).tolist() == [np.inf]
