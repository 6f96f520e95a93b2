"""Percentile bootstrap intervals and a paired test, exact in distribution and cheap for millions of items.

Items are drawn with replacement. Most metrics take few distinct values over many items (0 or 1; a
hundred different F1 scores), and drawing n items then is drawing how often each distinct value occurs
from a multinomial: the same distribution at the cost of the distinct values instead of the items.
Results do not depend on the order of the items, so not on how work was divided either.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rag_core.errors import UsageError

Floats = NDArray[np.float64]

_BLOCK_NUMBERS = 4_000_000  # numbers held at a time while drawing: 32 MB
_MULTINOMIAL_COST = 10  # drawing one multinomial count takes about as long as drawing ten items


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """The difference of two systems' means over the same items.

    Attributes:
      difference: mean of ours minus mean of the peer's.
      ci_low: lower end of the bootstrap interval of the difference.
      ci_high: upper end of it.
      p_value: two-sided, of a difference at least this large if there were none.
      n: items.
    """

    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    n: int


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are drawn.

    Attributes:
      n_resamples: resampled data sets.
      confidence: of the intervals, between 0 and 1.
      seed: the same seed and items give the same interval.
    """

    n_resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_resamples < 1 or not 0.0 < self.confidence < 1.0:
            raise UsageError(
                f"Bootstrap needs n_resamples of 1 or more and a confidence between 0 and 1, "
                f"not {self.n_resamples} and {self.confidence}."
            )

    def mean_interval(self, values: ArrayLike) -> tuple[float, float]:
        """The percentile interval of the mean of `values` [n]."""
        rows = _rows(values)
        return self.percentiles(self.resampled_sums(rows)[:, 0] / len(rows))

    def statistic_interval(
        self, rows: ArrayLike, statistic: Callable[[Floats], Floats]
    ) -> tuple[float, float]:
        """The percentile interval of a statistic of column sums.

        Args:
          rows: [n, d], what each item adds to the d sums that the statistic is computed from.
          statistic: maps sums [r, d] to values [r].
        """
        return self.percentiles(statistic(self.resampled_sums(_rows(rows))))

    def compare_means(self, ours: ArrayLike, peer: ArrayLike) -> PairedComparison:
        """Paired bootstrap test of two systems' per-item values [n] on the same items.

        The p-value comes from the resampled differences shifted to mean 0, which is what they would
        be without a difference; it is never below 1 / (n_resamples + 1).

        Raises:
          UsageError: the two differ in length, are empty or not finite.
        """
        ours, peer = np.asarray(ours, np.float64), np.asarray(peer, np.float64)
        if ours.shape != peer.shape:
            raise UsageError(
                f"A paired comparison needs one value an item of both systems, "
                f"found {ours.shape} and {peer.shape}."
            )
        rows = _rows(ours - peer)
        difference = float(rows.mean())
        resampled = self.resampled_sums(rows)[:, 0] / len(rows)
        # sums in another order differ in the last bits: equal differences must not count as smaller
        tolerance = 1e-12 * max(1.0, float(np.abs(rows).max()))
        extreme = int(np.sum(np.abs(resampled - difference) >= abs(difference) - tolerance))
        low, high = self.percentiles(resampled)
        return PairedComparison(difference, low, high, (1 + extreme) / (self.n_resamples + 1), len(rows))

    def percentiles(self, resampled: Floats) -> tuple[float, float]:
        """The central `confidence` of resampled statistics [n_resamples]."""
        tail = 50.0 * (1.0 - self.confidence)
        low, high = np.percentile(resampled, [tail, 100.0 - tail])
        return float(low), float(high)

    def resampled_sums(self, rows: Floats) -> Floats:
        """Column sums [n_resamples, d] of data sets of n rows drawn with replacement from `rows` [n, d]."""
        generator = np.random.default_rng(self.seed)
        distinct, counts = np.unique(rows, axis=0, return_counts=True)
        n = len(rows)
        by_counts = len(distinct) * _MULTINOMIAL_COST <= n
        block = max(1, _BLOCK_NUMBERS // (len(distinct) if by_counts else n))
        in_order = distinct if by_counts else np.repeat(distinct, counts, axis=0)
        sums = np.empty((self.n_resamples, rows.shape[1]))
        for start in range(0, self.n_resamples, block):
            size = min(block, self.n_resamples - start)
            if by_counts:
                drawn = generator.multinomial(n, counts / n, size=size)
                sums[start : start + size] = drawn.astype(np.float64) @ in_order
            else:
                items = generator.integers(n, size=(size, n), dtype=np.uint32)
                for column in range(rows.shape[1]):
                    sums[start : start + size, column] = in_order[:, column].take(items).sum(axis=1)
        return sums


def _rows(values: ArrayLike) -> Floats:
    """Values [n] or [n, d] as float64 [n, d]."""
    rows = np.asarray(values, np.float64)
    if not rows.size:
        raise UsageError("A bootstrap interval needs at least one value, found none.")
    if not np.isfinite(rows).all():
        raise UsageError("A bootstrap interval needs finite values, found NaN or an infinity.")
    return rows.reshape(len(rows), -1)
