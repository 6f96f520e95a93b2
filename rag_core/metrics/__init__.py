"""Metrics of answers, labels and retrievals, without Beam: usable from a notebook.

`score_answers`, `score_labels` and `score_retrievals` take whole sequences. For more rows than fit in
memory, `AnswerEvaluation`, `LabelEvaluation` and `RetrievalEvaluation` take them one by one and keep
numbers only. All values are fractions in [0, 1].
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rag_core.errors import UsageError
from rag_core.metrics.bootstrap import Bootstrap, PairedComparison
from rag_core.metrics.differences import (
    CORPUS_METRICS,
    MINUS_BASELINE,
    ItemValues,
    score_differences,
)
from rag_core.metrics.evaluations import (
    ANSWER_METRICS,
    CUTOFF_FAMILIES,
    RETRIEVAL_METRICS,
    AnswerEvaluation,
    RetrievalEvaluation,
)
from rag_core.metrics.labels import LABEL_METRICS, LabelEvaluation
from rag_core.metrics.retrieval import Reference, RetrievedPassage
from rag_core.metrics.scores import Score, select_metrics
from rag_core.metrics.slices import SlicedEvaluation

__all__ = [
    "ANSWER_METRICS",
    "CORPUS_METRICS",
    "CUTOFF_FAMILIES",
    "LABEL_METRICS",
    "MINUS_BASELINE",
    "RETRIEVAL_METRICS",
    "AnswerEvaluation",
    "Bootstrap",
    "ItemValues",
    "LabelEvaluation",
    "PairedComparison",
    "Reference",
    "RetrievalEvaluation",
    "RetrievedPassage",
    "Score",
    "SlicedEvaluation",
    "score_answers",
    "score_differences",
    "score_labels",
    "score_retrievals",
    "select_metrics",
]

_Prediction = TypeVar("_Prediction")
_Gold = TypeVar("_Gold")


def score_answers(
    predictions: Sequence[str | None],
    references: Sequence[Sequence[str]],
    *,
    metrics: Sequence[str] | None = None,
    regex: bool = False,
) -> list[Score]:
    """Scores generated answers against gold answers.

    Args:
      predictions: one a question; None is a missing prediction and counts 0.
      references: the gold answers of each question; a question with none is left out (see `Score.n`).
      metrics: some of `ANSWER_METRICS`; None for all that apply.
      regex: gold answers are regular expressions (CuratedTREC).

    Raises:
      UsageError: unequal lengths, an unknown metric, or one asked for that nothing can be said about.
    """
    evaluation = AnswerEvaluation(metrics, regex=regex)
    for prediction, answers in _pairs(predictions, references):
        evaluation.add(prediction, answers)
    return evaluation.scores()


def score_labels(
    predictions: Sequence[str | None], references: Sequence[str], *, metrics: Sequence[str] | None = None
) -> list[Score]:
    """Scores predicted labels against gold labels.

    Args:
      predictions: one a claim; None is a missing prediction and counts as wrong.
      references: the gold labels, compared as they are; an empty one leaves its claim out.
      metrics: some of `LABEL_METRICS`; None for all. Those of single labels have a `slice`.

    Raises:
      UsageError: unequal lengths or an unknown metric.
    """
    evaluation = LabelEvaluation(metrics)
    for prediction, label in _pairs(predictions, references):
        evaluation.add(prediction, label)
    return evaluation.scores()


def score_retrievals(
    passages: Sequence[Sequence[RetrievedPassage] | None],
    references: Sequence[Reference],
    *,
    metrics: Sequence[str] | None = None,
    regex: bool = False,
) -> list[Score]:
    """Scores retrieved passages against gold answers and gold documents.

    Args:
      passages: for each question its passages, best first; None is missing and counts 0.
      references: what is right for each question; each metric leaves out those without its kind of gold.
      metrics: some of `RETRIEVAL_METRICS`, with any cut-off; None for all that apply.
      regex: gold answers are regular expressions (CuratedTREC).

    Raises:
      UsageError: unequal lengths, an unknown metric, or one asked for that nothing can be said about.
    """
    evaluation = RetrievalEvaluation(metrics, regex=regex)
    for retrieved, reference in _pairs(passages, references):
        evaluation.add(retrieved, reference)
    return evaluation.scores()


def _pairs(
    predictions: Sequence[_Prediction], references: Sequence[_Gold]
) -> Iterator[tuple[_Prediction, _Gold]]:
    if len(predictions) != len(references):
        raise UsageError(
            f"Predictions and references must pair up, found {len(predictions)} and {len(references)}; "
            f"give None where a prediction is missing."
        )
    return zip(predictions, references, strict=True)
