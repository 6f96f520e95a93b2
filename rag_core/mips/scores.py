"""Inner products: exact to the last bit of a float32, and how far a float32 product can be off.

A score is the inner product of the question's float32 vector and the stored vector as the nearest
float64 number, rounded once to float32. It depends on nothing else: not on the order of summation,
the block, the thread or the machine.
"""

import math

import numpy as np

_UNIT_FLOAT32 = 2.0**-24  # unit roundoff u of float32
_UNIT_FLOAT64 = 2.0**-53
_SMALLEST_NORMAL = 2.0**-126  # below it, float32 arithmetic may round to multiples of 2⁻¹⁴⁹ or flush to 0
_OVERFLOW = 1e38  # products of norms above it may overflow on the way, though float32 reaches 3.4e38


def checked_questions(questions: np.ndarray, dimension: int, n_docs: int) -> np.ndarray:
    """Question vectors as searches take them: float32 [B, D], contiguous.

    Raises:
      ValueError: a vector is not finite or has another dimension than `dimension`, or `n_docs` < 1.
    """
    if questions.ndim != 2 or questions.shape[1] != dimension:
        raise ValueError(f"expected question vectors [B, {dimension}], got {list(questions.shape)}")
    if n_docs < 1:
        raise ValueError(f"n_docs is expected to be at least 1, got {n_docs}")
    questions = np.ascontiguousarray(questions, dtype=np.float32)
    finite = np.isfinite(questions).all(axis=1)
    if not finite.all():
        raise ValueError(f"the question vector of row {int(np.argmin(finite))} holds NaN or infinity")
    return questions


def exact_scores(questions: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Scores of n pairs.

    Products of two float32 numbers are exact in float64, and the float64 sum is off by at most
    γ_D·Σ|qᵢdᵢ| ≤ γ_D·‖q‖‖d‖, γ_D = D·u/(1 − D·u). Where that could change the rounding to float32
    (about one pair in a million), `math.fsum` gives the sum correctly rounded.

    Args:
      questions: float32 [n, D].
      vectors: float16 or float32 [n, D].

    Returns:
      float32 [n]; ±inf where the score exceeds float32.
    """
    left, right = questions.astype(np.float64), vectors.astype(np.float64)
    sums = np.einsum("nd,nd->n", left, right)
    norms = np.sqrt(np.einsum("nd,nd->n", left, left) * np.einsum("nd,nd->n", right, right))
    # twice the bound covers the rounding of the norms themselves
    error = 2 * _gamma(left.shape[1], _UNIT_FLOAT64) * norms
    with np.errstate(over="ignore"):  # beyond float32 is inf, as documented
        scores = (sums + error).astype(np.float32)
        uncertain = np.flatnonzero(scores != (sums - error).astype(np.float32))
        for pair in uncertain:
            scores[pair] = np.float64(math.fsum((left[pair] * right[pair]).tolist())).astype(np.float32)
    return scores + np.float32(0)  # −0 becomes 0: equal scores are equal bytes


def product_error(questions: np.ndarray, max_norm: float) -> np.ndarray:
    """How far a float32 inner product with any stored vector can be from the exact one.

    In any order of summation, with or without fused multiply-add, each of the D products takes part
    in at most D roundings: |fl(q·d) − q·d| ≤ γ_D·Σ|qᵢdᵢ| ≤ γ_D·‖q‖‖d‖ (Higham, Accuracy and
    Stability of Numerical Algorithms, §3.1). Products below the normal range lose at most the
    smallest normal number each, times the other factor where inputs themselves are flushed.

    Args:
      questions: float32 [B, D].
      max_norm: no stored vector's norm is larger.

    Returns:
      float64 [B]; inf where the float32 product may overflow, so that it says nothing.
    """
    dimension = questions.shape[1]
    norms = np.linalg.norm(questions.astype(np.float64), axis=1)
    rounding = _gamma(dimension, _UNIT_FLOAT32) * norms * max_norm
    underflow = dimension * _SMALLEST_NORMAL * (1 + norms + max_norm)
    # the factor covers the roundings of these few float64 operations
    return np.where(norms * max_norm > _OVERFLOW, np.inf, (rounding + underflow) * (1 + 1e-9))


def _gamma(dimension: int, unit: float) -> float:
    return dimension * unit / (1 - dimension * unit)
