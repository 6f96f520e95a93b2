"""What metrics remember of the items seen: numbers, never texts, so that a million rows fit in memory."""

from array import array
from collections.abc import Sequence
from math import fsum
from typing import NamedTuple, Protocol, Self

import numpy as np

from rag_core.metrics.bootstrap import Bootstrap
from rag_core.metrics.text import bleu_1, bleu_1_statistics, distinct_trigram_influences, trigram_keys


class Estimate(NamedTuple):
    """A value with its interval."""

    value: float
    low: float
    high: float


class Tally(Protocol):
    """Grows item by item; two of one kind merge into what one would have seen."""

    @property
    def n(self) -> int:
        """Items that the value is taken over."""
        ...

    def merge(self, other: Self) -> None:
        """Appends another tally's items."""
        ...

    def estimate(self, bootstrap: Bootstrap) -> Estimate:
        """The value over all items; only where `n` is above 0."""
        ...


class MeanTally:
    """The mean of one number an item; 8 bytes an item."""

    def __init__(self) -> None:
        self.values = array("d")

    @property
    def n(self) -> int:
        return len(self.values)

    def add(self, value: float) -> None:
        self.values.append(value)

    def merge(self, other: "MeanTally") -> None:
        self.values.extend(other.values)

    def estimate(self, bootstrap: Bootstrap) -> Estimate:
        # fsum rounds once, so the mean does not depend on the order of the items
        return Estimate(fsum(self.values) / self.n, *bootstrap.mean_interval(self.values))


class Bleu1Tally:
    """Corpus BLEU-1; 24 bytes an item. The bootstrap resamples the items' sufficient statistics."""

    def __init__(self) -> None:
        self._statistics = array("q")

    @property
    def n(self) -> int:
        return len(self._statistics) // 3

    def add(self, prediction: str, answers: Sequence[str]) -> None:
        self._statistics.extend(bleu_1_statistics(prediction, answers))

    def merge(self, other: "Bleu1Tally") -> None:
        self._statistics.extend(other._statistics)

    def estimate(self, bootstrap: Bootstrap) -> Estimate:
        rows = np.asarray(self._statistics, np.float64).reshape(-1, 3)
        value = float(bleu_1(rows.sum(axis=0, keepdims=True))[0])
        return Estimate(value, *bootstrap.statistic_interval(rows, bleu_1))


class DistinctTrigramsTally:
    """Distinct over all trigrams; 8 bytes a trigram. Answers without a trigram are not counted in `n`."""

    def __init__(self) -> None:
        self._keys = array("Q")
        self._lengths = array("q")

    @property
    def n(self) -> int:
        return len(self._lengths)

    def add(self, prediction: str) -> None:
        keys = trigram_keys(prediction)
        if keys:
            self._keys.extend(keys)
            self._lengths.append(len(keys))

    def merge(self, other: "DistinctTrigramsTally") -> None:
        self._keys.extend(other._keys)
        self._lengths.extend(other._lengths)

    def estimate(self, bootstrap: Bootstrap) -> Estimate:
        ratio, influences = distinct_trigram_influences(
            np.asarray(self._keys, np.uint64), np.asarray(self._lengths, np.int64)
        )
        low, high = bootstrap.mean_interval(influences)
        return Estimate(ratio, max(0.0, low), min(1.0, high))
