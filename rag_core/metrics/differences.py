"""How much better one system is than another on the same items: mean paired differences."""

from collections.abc import Iterable, Mapping

import numpy as np

from rag_core.metrics.bootstrap import Bootstrap, Floats
from rag_core.metrics.scores import Score

MINUS_BASELINE = "_minus_baseline"  # ends the name of a metric whose value is a difference

# of a whole corpus, or of a label: items have no values of these that a mean could be taken of
CORPUS_METRICS = (
    *("bleu_1", "distinct_trigrams"),
    *("macro_f1", "label_precision", "label_recall", "label_f1"),
)


class ItemValues:
    """What each item scored by itself, for the metrics that are means over items; 8 bytes a value.

    Items are numbered, so that two systems' values pair up whatever order they were judged in.

    Args:
      n_items: their numbers are from 0 up to this.
    """

    def __init__(self, n_items: int):
        self._n_items = n_items
        self._values: dict[str, Floats] = {}

    def put(self, item: int, values: Mapping[str, float]) -> None:
        """Keeps an item's values, as `add` of an evaluation returns them."""
        for metric, value in values.items():
            if metric not in self._values:
                self._values[metric] = np.full(self._n_items, np.nan)
            self._values[metric][item] = value

    def of(self, metric: str) -> Floats:
        """Values [n_items] of a metric, NaN where it does not judge the item."""
        return self._values[metric]


def score_differences(
    ours: ItemValues, baseline: ItemValues, metrics: Iterable[str], bootstrap: Bootstrap
) -> list[Score]:
    """The mean of ours minus the baseline's, over the items judged, for each metric.

    The interval is of the paired bootstrap: a resampled data set takes the same items of both, so what
    makes an item hard for both does not widen it.

    Args:
      ours: values of the system.
      baseline: values of the other system on the same items, judged by the same references.
      metrics: names of metrics that both have; a score's metric is the name and `MINUS_BASELINE`.
      bootstrap: how the intervals are drawn.
    """
    scores = []
    for metric in metrics:
        values = ours.of(metric)
        judged = ~np.isnan(values)
        found = bootstrap.compare_means(values[judged], baseline.of(metric)[judged])
        name = f"{metric}{MINUS_BASELINE}"
        scores.append(Score(name, found.difference, found.n, found.ci_low, found.ci_high))
    return scores
