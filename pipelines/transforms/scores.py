"""Predictions and references to scores: the work of the `evaluate` stage."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from pipelines.dataset.reader import Dataset
from pipelines.dataset.unit import Unit, UnitWriter
from pipelines.filesystems import STORAGE
from pipelines.transforms.units import Work
from rag_core.errors import UsageError
from rag_core.exports import dpr_retrieval_json, kilt_prediction_lines, trec_run_lines
from rag_core.metrics import (
    AnswerEvaluation,
    ItemValues,
    LabelEvaluation,
    Reference,
    RetrievalEvaluation,
    RetrievedPassage,
    SlicedEvaluation,
    score_differences,
)
from rag_core.questions import QuestionSource, read_question_source, read_slices
from rag_core.storage import join
from schemas import TABLES

Row = dict[str, Any]

# file name and content, from rows of predictions and whether gold answers are regular expressions
EXPORTS: dict[str, tuple[str, Callable[[Iterator[Row], bool], Iterator[str]]]] = {
    "dpr_json": ("dpr_retrieval.json", lambda rows, regex: dpr_retrieval_json(rows, regex=regex)),
    "kilt": ("kilt_predictions.jsonl", lambda rows, regex: kilt_prediction_lines(rows)),
    "trec": ("run.trec", lambda rows, regex: trec_run_lines(rows)),
}


@dataclass(frozen=True)
class EvaluationSettings:
    """What to compute; `slice_by` holds the fields of each way of slicing."""

    metrics: tuple[str, ...] | None
    regex: bool
    exports: tuple[str, ...]
    slice_by: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is known of a question: its number among the references, and its slice in each way of slicing."""

    number: int
    reference: Reference
    slices: tuple[str | None, ...]


class EvaluatePredictions(Work):
    """Scores a table of answers, labels or retrievals against references, in one unit.

    References are held in memory, predictions are streamed. With a baseline, predictions of the same
    table for the same references, the differences to it are scored too.
    """

    def __init__(
        self,
        output: str,
        predictions: Dataset,
        references: list[QuestionSource],
        settings: EvaluationSettings,
        baseline: Dataset | None = None,
    ):
        self._output = output
        self._predictions = predictions
        self._references = references
        self._settings = settings
        self._baseline = baseline

    def plan(self) -> Iterator[Unit]:
        origins = tuple(source.path for source in self._references)
        yield Unit(0, 0, {"exports": list(self._settings.exports)}, origins)

    def compute(self, unit: Unit, loaded: Any, writer: UnitWriter) -> None:
        references = self._read_references(writer)
        values = None if self._baseline is None else ItemValues(len(references))
        evaluation, counts = self._judge(self._predictions, references, values)
        whole = evaluation.whole()
        writer.counts.extra["predictions_without_reference"] += counts["unknown"]
        writer.counts.extra["repeated_predictions"] += counts["repeated"]
        writer.counts.extra["references_without_prediction"] += counts["missing"]
        writer.counts.extra["references_without_gold"] += whole.counts["without_gold"]
        scores = whole.scores()
        if self._baseline is not None and values is not None:
            theirs = ItemValues(len(references))
            baseline, counts = self._judge(self._baseline, references, theirs)
            writer.counts.extra["references_without_baseline"] += counts["missing"]
            metrics = _comparable(whole, baseline.whole(), self._baseline.path)
            scores += score_differences(values, theirs, metrics, whole.bootstrap)
        scores += evaluation.slice_scores(whole)
        self._export(references)
        rows = [asdict(score) for score in scores]
        writer.write(pa.RecordBatch.from_pylist(rows, schema=TABLES["scores"]))

    def _read_references(self, writer: UnitWriter) -> dict[str, _Asked]:
        references: dict[str, _Asked] = {}
        ways = self._settings.slice_by
        for source in self._references:
            slices = list(read_slices(STORAGE, source, ways)) if ways else []
            for question in writer.accepted(read_question_source(STORAGE, source)):
                if ways and question.position >= len(slices):
                    raise UsageError(
                        f"{source.name}: the fields to slice by can be read for {len(slices)} records only, the "
                        "questions for more: the file is damaged; make it again"
                    )
                first, *others = question.evidence or ((),)
                asked = _Asked(
                    len(references),
                    Reference(question.answers or (), first, tuple(others)),
                    slices[question.position] if ways else (),
                )
                references.setdefault(question.question_id, asked)
        return references

    def _judge(
        self, predictions: Dataset, references: dict[str, _Asked], values: ItemValues | None
    ) -> tuple["SlicedEvaluation[_Evaluation]", Counter[str]]:
        """Adds each prediction once, then the questions that have none; fills `values` where there are some.

        Returns:
          The evaluation; and how many predictions are `missing`, `unknown` to the references, `repeated`.

        Raises:
          UsageError: none of the predictions is of a question of the references.
        """
        evaluation = SlicedEvaluation(lambda: _EVALUATIONS[predictions.table](self._settings))
        counts = Counter(missing=0, unknown=0, repeated=0)
        missing = dict.fromkeys(references)  # a set in their order
        for row in _rows(predictions):
            asked = references.get(row["question_id"])
            if asked is None:
                counts["unknown"] += 1
            elif row["question_id"] in missing:
                del missing[row["question_id"]]
                _add(evaluation.cell(asked.slices), row, asked, values)
            else:
                counts["repeated"] += 1
        if len(missing) == len(references):
            raise UsageError(
                f"{predictions.path}: no question_id of it is among the {len(references)} references of "
                f"{', '.join(source.path for source in self._references)}; give the references of these questions"
            )
        for question_id in missing:
            asked = references[question_id]
            _add(evaluation.cell(asked.slices), None, asked, values)
        counts["missing"] = len(missing)
        return evaluation, counts

    def _export(self, references: dict[str, _Asked]) -> None:
        """Writes the other formats asked for, with the references' answers in the rows."""
        for name in self._settings.exports:
            file_name, content = EXPORTS[name]
            rows = (
                row | {"answers": list(references[row["question_id"]].reference.answers)}
                for row in _rows(self._predictions)
                if row["question_id"] in references
            )
            with STORAGE.create(join(self._output, file_name)) as file:
                for text in content(rows, self._settings.regex):
                    file.write(text.encode())


def _rows(dataset: Dataset) -> Iterator[Row]:
    for batch in dataset.read(STORAGE):
        yield from batch.to_pylist()


_Evaluation = AnswerEvaluation | LabelEvaluation | RetrievalEvaluation

_EVALUATIONS: dict[str, Callable[[EvaluationSettings], _Evaluation]] = {
    "answers": lambda settings: AnswerEvaluation(settings.metrics, regex=settings.regex),
    "labels": lambda settings: LabelEvaluation(settings.metrics),
    "retrievals": lambda settings: RetrievalEvaluation(settings.metrics, regex=settings.regex),
}


def _comparable(ours: _Evaluation, baseline: _Evaluation, path: str) -> list[str]:
    """The metrics that are means over questions and that both can give.

    Raises:
      UsageError: one was asked for by name that the baseline, which lies at `path`, cannot give.
    """
    try:
        theirs = baseline.mean_metrics()
    except UsageError as error:
        raise UsageError(f"--baseline {path}: {error}") from error
    return [metric for metric in ours.mean_metrics() if metric in theirs]


def _add(evaluation: _Evaluation, row: Row | None, asked: _Asked, values: ItemValues | None) -> None:
    """Adds one question's prediction, None where it is missing."""
    reference = asked.reference
    if isinstance(evaluation, AnswerEvaluation):
        scored = evaluation.add(row and row["answer"], reference.answers)
    elif isinstance(evaluation, LabelEvaluation):
        scored = evaluation.add(row and row["label"], reference.answers[0] if reference.answers else "")
    else:
        scored = evaluation.add(row and [_retrieved(passage) for passage in row["passages"]], reference)
    if values is not None:
        values.put(asked.number, scored)


def _retrieved(passage: Row) -> RetrievedPassage:
    return RetrievedPassage(
        passage["passage_id"], passage["document_id"], passage["title"], passage["text"] or ""
    )
