"""Label accuracy, and precision, recall and F1 of each label."""

from collections import Counter
from collections.abc import Sequence
from typing import Self

import numpy as np

from rag_core.metrics.bootstrap import Bootstrap, Floats
from rag_core.metrics.scores import Score, select_metrics

LABEL_METRICS = ("accuracy", "macro_f1", "label_precision", "label_recall", "label_f1")


class LabelEvaluation:
    """Scores predicted labels one by one; remembers a confusion table only.

    `label_precision`, `label_recall` and `label_f1` give one score for each label, with
    `slice="label=NAME"`; a ratio without a case (precision of a label never predicted) is 0.
    `macro_f1` is the plain mean of F1 over all labels, gold or predicted. Intervals resample the
    items, by drawing how many fall into each cell of the confusion table.

    Attributes:
      counts: `scored`; of these `missing_prediction`; and `without_gold`, which are left out.
    """

    def __init__(self, metrics: Sequence[str] | None = None, *, bootstrap: Bootstrap | None = None):
        self.metrics = select_metrics(metrics, LABEL_METRICS)
        self.bootstrap = bootstrap or Bootstrap()
        self.counts: Counter[str] = Counter()
        self._cells: Counter[tuple[str, str | None]] = Counter()

    def add(self, prediction: str | None, reference: str | None) -> dict[str, float]:
        """One item: the predicted label, None where missing (wrong), and the gold label.

        Returns:
          What the item scored by itself: its `accuracy`, where that is computed and a gold label known.
        """
        if not reference:
            self.counts["without_gold"] += 1
            return {}
        self.counts["scored"] += 1
        self.counts["missing_prediction"] += prediction is None
        self._cells[reference, prediction] += 1
        return {name: float(prediction == reference) for name in self.mean_metrics()}

    def merge(self, other: Self) -> None:
        """Takes over the items of another evaluation."""
        self.counts.update(other.counts)
        self._cells.update(other._cells)

    def mean_metrics(self) -> list[str]:
        """The metrics that are means over items; none where no item had a gold label."""
        return [name for name in self.metrics if name == "accuracy" and self._cells]

    def scores(self, slice_name: str | None = None, whole: Self | None = None) -> list[Score]:
        """The scores of all items added; none where no item had a gold label.

        Args:
          slice_name: what these items are, such as `split=dev`; precedes the label in `slice`.
          whole: the evaluation that these items are a part of; labels are those of the part all the same.
        """
        if not self._cells:
            return []
        cells = sorted(self._cells.items(), key=_cell_order)
        labels = sorted({label for pair in self._cells for label in pair if label is not None})
        counts = np.array([count for _, count in cells], np.int64)
        n = int(counts.sum())
        draws = np.random.default_rng(self.bootstrap.seed).multinomial(
            n, counts / n, size=self.bootstrap.n_resamples
        )
        # row 0 is what was seen, the others are resampled
        tables = np.concatenate([counts[None], draws]).astype(np.float64)
        one_hot = np.eye(len(labels) + 1)[:, :-1]  # the last row, for a missing prediction, is empty
        is_gold = one_hot[[labels.index(gold) for (gold, _), _ in cells]]
        is_predicted = one_hot[[-1 if label is None else labels.index(label) for (_, label), _ in cells]]
        gold, predicted, hits = tables @ is_gold, tables @ is_predicted, tables @ (is_gold * is_predicted)
        f1 = _ratio(2.0 * hits, gold + predicted)
        per_label = {
            "label_precision": (_ratio(hits, predicted), predicted[0]),
            "label_recall": (_ratio(hits, gold), gold[0]),
            "label_f1": (f1, gold[0]),
        }
        overall = {"accuracy": hits.sum(axis=1) / n, "macro_f1": f1.mean(axis=1)}

        scores = []
        for metric in self.metrics:
            if metric in overall:
                scores.append(self._score(metric, overall[metric], n, slice_name))
                continue
            values, support = per_label[metric]
            for column, label in enumerate(labels):
                part = f"{slice_name},label={label}" if slice_name else f"label={label}"
                scores.append(self._score(metric, values[:, column], int(support[column]), part))
        return scores

    def _score(self, metric: str, values: Floats, n: int, slice_name: str | None) -> Score:
        return Score(metric, float(values[0]), n, *self.bootstrap.percentiles(values[1:]), slice_name)


def _cell_order(cell: tuple[tuple[str, str | None], int]) -> tuple[str, bool, str]:
    (gold, predicted), _ = cell
    return gold, predicted is not None, predicted or ""


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
