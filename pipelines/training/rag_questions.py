"""Questions that a RAG model is trained on: from question files, or from retrievals with their documents."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.dataset.manifest import Input
from pipelines.dataset.reader import Dataset, open_dataset
from pipelines.filesystems import STORAGE
from pipelines.sources import input_files, raw_inputs
from pipelines.training.questions import Ledger
from rag_core.context import ContextTokenizer, PassageText, QuestionTooLongError
from rag_core.questions import QuestionSource, plan_question_sources
from rag_core.questions.read import read_question_source
from rag_core.records import LeaveOutReason, LeftOut, Question, Reject, RejectReason
from rag_core.training.documents import RagQuestion


@dataclass(frozen=True)
class RagSources:
    """What is trained on or validated with: question files, or retrievals; neither for no validation."""

    files: Sequence[QuestionSource] = ()
    retrievals: Sequence[Dataset] = ()

    @classmethod
    def plan(
        cls, questions: Sequence[str] | None, retrievals: Sequence[str] | None, questions_format: str
    ) -> "RagSources":
        """Finds the files and decides their formats.

        Raises:
          UsageError: nothing matches, a file has no rows, a data set is unfinished or holds something else.
        """
        files = input_files(STORAGE, questions) if questions else []
        return cls(
            plan_question_sources(STORAGE, files, questions_format) if files else (),
            [open_dataset(STORAGE, path, "retrievals") for path in retrievals or ()],
        )

    @property
    def inputs(self) -> list[Input]:
        """As a target has them."""
        files = raw_inputs(STORAGE, [source.path for source in self.files])
        return [*files, *(dataset.as_input() for dataset in self.retrievals)]

    def read(self, n_docs: int, contexts: ContextTokenizer, ledger: Ledger) -> list[RagQuestion]:
        """All questions that have an answer and that the generator can read, in order.

        Args:
          n_docs: of a retrieval's passages so many are kept.
        """
        records = itertools.chain(
            (
                _with_answers(record, source.path)
                for source in self.files
                for record in read_question_source(STORAGE, source)
            ),
            (record for dataset in self.retrievals for record in _rows(dataset, n_docs)),
        )
        # the question decides, not its passages: of these as many tokens are dropped as are too many
        passages = [PassageText("", "")] if n_docs else []
        readable = (_readable(record, passages, contexts) for record in records)
        return [question for record in readable if (question := ledger.accepted(record)) is not None]


def _rows(dataset: Dataset, n_docs: int) -> Iterator[RagQuestion | LeftOut | Reject]:
    for part in dataset.parts:
        position = 0
        for batch in part.read(STORAGE, "retrievals"):
            for row in batch.to_pylist():
                yield _of_retrieval(row, part.path, position, n_docs)
                position += 1


def _of_retrieval(
    row: dict[str, Any], path: str, position: int, n_docs: int
) -> RagQuestion | LeftOut | Reject:
    if not row["answers"]:
        return LeftOut(LeaveOutReason.NO_ANSWER, position)
    passages = row["passages"][:n_docs]
    if not passages:
        return Reject(
            path,
            position,
            RejectReason.NO_PASSAGES,
            f"{path}: row {position} has no passages to train with; retrieve some, or train closed book with "
            "--questions and --n_docs 0",
            record_id=row["question_id"],
            excerpt=row["question"],
        )
    return RagQuestion(
        row["question_id"],
        row["question"],
        tuple(row["answers"]),
        tuple(PassageText(passage["title"], passage["text"]) for passage in passages),
        tuple(passage["score"] for passage in passages),
        source=path,
        position=position,
    )


def _with_answers(record: Question | LeftOut | Reject, path: str) -> RagQuestion | LeftOut | Reject:
    if not isinstance(record, Question):
        return record
    if not record.answers:
        return LeftOut(LeaveOutReason.NO_ANSWER, record.position)
    return RagQuestion(
        record.question_id, record.question, record.answers, source=path, position=record.position
    )


def _readable(
    record: RagQuestion | LeftOut | Reject, passages: Sequence[PassageText], contexts: ContextTokenizer
) -> RagQuestion | LeftOut | Reject:
    """Rejects a question that the generator cannot read: it would end the run when its turn comes."""
    if isinstance(record, RagQuestion) and contexts.limited:
        try:
            contexts(record.question, passages)
        except QuestionTooLongError as error:
            return Reject(
                record.source,
                record.position,
                RejectReason.BAD_FIELD,
                f"{record.source}: row {record.position}: {error}",
                record_id=record.question_id,
                excerpt=record.question,
            )
    return record
