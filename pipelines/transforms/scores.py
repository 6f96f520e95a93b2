"""Predictions and references to scores: the work of the `evaluate` stage."""

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
    LabelEvaluation,
    Reference,
    RetrievalEvaluation,
    RetrievedPassage,
)
from rag_core.questions import QuestionSource, read_question_source
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
    """What to compute."""

    metrics: tuple[str, ...] | None
    regex: bool
    exports: tuple[str, ...]


class EvaluatePredictions(Work):
    """Scores a table of answers, labels or retrievals against references, in one unit.

    References are held in memory, predictions are streamed.
    """

    def __init__(
        self,
        output: str,
        predictions: Dataset,
        references: list[QuestionSource],
        settings: EvaluationSettings,
    ):
        self._output = output
        self._predictions = predictions
        self._references = references
        self._settings = settings

    def plan(self) -> Iterator[Unit]:
        origins = tuple(source.path for source in self._references)
        yield Unit(0, 0, {"exports": list(self._settings.exports)}, origins)

    def compute(self, unit: Unit, loaded: Any, writer: UnitWriter) -> None:
        references = self._read_references(writer)
        evaluation = _EVALUATIONS[self._predictions.table](self._settings)
        missing = set(references)
        for row in self._rows():
            reference = references.get(row["question_id"])
            if reference is None:
                writer.counts.extra["predictions_without_reference"] += 1
            elif row["question_id"] in missing:
                missing.discard(row["question_id"])
                _add(evaluation, row, reference)
            else:
                writer.counts.extra["repeated_predictions"] += 1
        for question_id, reference in references.items():
            if question_id in missing:
                _add(evaluation, None, reference)
        writer.counts.extra["references_without_prediction"] += len(missing)
        writer.counts.extra["references_without_gold"] += evaluation.counts["without_gold"]
        if len(missing) == len(references):
            raise UsageError(
                f"{self._predictions.path}: no question_id of it is among the {len(references)} references of "
                f"{', '.join(unit.origins)}; give the references of these questions"
            )
        self._export(references)
        scores = [asdict(score) for score in evaluation.scores()]
        writer.write(pa.RecordBatch.from_pylist(scores, schema=TABLES["scores"]))

    def _read_references(self, writer: UnitWriter) -> dict[str, Reference]:
        references: dict[str, Reference] = {}
        for source in self._references:
            for question in writer.accepted(read_question_source(STORAGE, source)):
                first, *others = question.evidence or ((),)
                reference = Reference(question.answers or (), first, tuple(others))
                references.setdefault(question.question_id, reference)
        return references

    def _rows(self) -> Iterator[Row]:
        for batch in self._predictions.read(STORAGE):
            yield from batch.to_pylist()

    def _export(self, references: dict[str, Reference]) -> None:
        """Writes the other formats asked for, with the references' answers in the rows."""
        for name in self._settings.exports:
            file_name, content = EXPORTS[name]
            rows = (
                row | {"answers": list(references[row["question_id"]].answers)}
                for row in self._rows()
                if row["question_id"] in references
            )
            with STORAGE.create(join(self._output, file_name)) as file:
                for text in content(rows, self._settings.regex):
                    file.write(text.encode())


_Evaluation = AnswerEvaluation | LabelEvaluation | RetrievalEvaluation

_EVALUATIONS: dict[str, Callable[[EvaluationSettings], _Evaluation]] = {
    "answers": lambda settings: AnswerEvaluation(settings.metrics, regex=settings.regex),
    "labels": lambda settings: LabelEvaluation(settings.metrics),
    "retrievals": lambda settings: RetrievalEvaluation(settings.metrics, regex=settings.regex),
}


def _add(evaluation: _Evaluation, row: Row | None, reference: Reference) -> None:
    """Adds one question's prediction, None where it is missing."""
    if isinstance(evaluation, AnswerEvaluation):
        evaluation.add(row and row["answer"], reference.answers)
    elif isinstance(evaluation, LabelEvaluation):
        evaluation.add(row and row["label"], reference.answers[0] if reference.answers else "")
    else:
        evaluation.add(row and [_retrieved(passage) for passage in row["passages"]], reference)


def _retrieved(passage: Row) -> RetrievedPassage:
    return RetrievedPassage(
        passage["passage_id"], passage["document_id"], passage["title"], passage["text"] or ""
    )
