"""What a retriever is trained on: a question, passages that answer it, and passages that only seem to.

Read from DPR's own training files, or mined from what a retriever gave: hard negatives are passages that
it ranks high and that do not hold the answer (Karpukhin et al. 2020, section 3.2).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag_core.context import PassageText
from rag_core.corpus.files import read_blocks
from rag_core.corpus.json_list import read_elements
from rag_core.corpus.read import until_damage
from rag_core.corpus.rows import BadRecord, Row, convert_rows, id_field, string_field
from rag_core.corpus.source import Source
from rag_core.metrics.retrieval import has_answer
from rag_core.questions.rows import ID_FIELDS, to_answers
from rag_core.records import LeaveOutReason, LeftOut, Reject, RejectReason
from rag_core.storage import Storage

_LIST = re.compile(r"^\s*\[")


@dataclass(frozen=True, slots=True)
class TrainingQuestion:
    """A question with its passages, best first.

    Attributes:
      positives: at least one; they answer the question.
      hard_negatives: look as if they did.
      position: 0-based record in its source.
    """

    question_id: str
    question: str
    answers: tuple[str, ...]
    positives: tuple[PassageText, ...]
    hard_negatives: tuple[PassageText, ...]
    position: int


def read_dpr_training(storage: Storage, source: Source) -> Iterator[TrainingQuestion | LeftOut | Reject]:
    """The questions of a DPR training file: a JSON list of objects with `question`, `answers` and passages.

    Passages are `positive_ctxs` and `hard_negative_ctxs`, lists of objects with `title` and `text`; random
    `negative_ctxs` are not read, since a batch's other passages serve. A question without a positive
    passage is left out, as DPR's own training does.
    """
    rows = (_checked_row(element) for element in read_elements(read_blocks(storage, source), _LIST, "a list"))
    return until_damage(source, convert_rows(source, rows, _to_training_question))


def mine_hard_negatives(retrieval: Mapping[str, Any], position: int, most: int) -> TrainingQuestion | LeftOut:
    """A row of the retrievals table as a question to train on.

    Positive are the passages that hold an answer, hard negatives the best of the others.

    Args:
      retrieval: with `question_id`, `question`, `answers` and `passages`, best first.
      position: of the row.
      most: how many of either are kept.
    """
    answers: tuple[str, ...] = tuple(retrieval["answers"] or ())
    passages: Sequence[Mapping[str, str]] = retrieval["passages"]
    holding = [bool(answers) and has_answer(passage["text"], answers) for passage in passages]
    texts = [PassageText(passage["title"], passage["text"]) for passage in passages]
    positives = [text for text, holds in zip(texts, holding, strict=True) if holds]
    others = [text for text, holds in zip(texts, holding, strict=True) if not holds]
    if not positives:
        return LeftOut(LeaveOutReason.NO_POSITIVE, position)
    return TrainingQuestion(
        str(retrieval["question_id"]),
        str(retrieval["question"]),
        answers,
        tuple(positives[:most]),
        tuple(others[:most]),
        position,
    )


def _checked_row(element: object) -> Row | BadRecord:
    if isinstance(element, dict | BadRecord):
        return element
    return BadRecord(RejectReason.BAD_FIELD, f"expected an object, got {type(element).__name__}")


def _to_training_question(row: Row, source: Source, position: int) -> TrainingQuestion | LeftOut:
    question = string_field(row, "question").strip()
    if not question:
        return LeftOut(LeaveOutReason.EMPTY_QUESTION, position)
    positives = _passages(row, "positive_ctxs")
    if not positives:
        return LeftOut(LeaveOutReason.NO_POSITIVE, position)
    return TrainingQuestion(
        id_field(row, *ID_FIELDS) or source.record_id(position),
        question,
        to_answers(row.get("answers"), "answers") or (),
        positives,
        _passages(row, "hard_negative_ctxs"),
        position,
    )


def _passages(row: Row, name: str) -> tuple[PassageText, ...]:
    value = row.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(passage, dict) for passage in value):
        raise BadRecord(RejectReason.BAD_FIELD, f"field {name!r}: expected a list of objects with 'text'")
    return tuple(
        PassageText(string_field(passage, "title", required=False), string_field(passage, "text"))
        for passage in value
    )
