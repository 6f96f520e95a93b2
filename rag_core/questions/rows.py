"""Rows to questions: which fields hold the question, its id and its gold answers."""

import ast
import json
from collections.abc import Mapping

from rag_core.corpus.json_lines import check_encodable
from rag_core.corpus.rows import BadRecord, Row, id_field, present_field, string_field
from rag_core.corpus.source import Source
from rag_core.records import EXCERPT_CHARACTERS, LeaveOutReason, LeftOut, Question, RejectReason

TEXT_FIELDS = ("question", "claim", "input")
ANSWER_FIELDS = ("answers", "answer", "label")
ID_FIELDS = ("question_id", "id", "_id")
EVIDENCE_FIELD = "gold_document_ids"
QUESTION_FIELDS = (*ID_FIELDS, *TEXT_FIELDS, *ANSWER_FIELDS, EVIDENCE_FIELD)


def to_question(row: Row, source: Source, position: int) -> Question | LeftOut:
    """The question of a row: the first of `TEXT_FIELDS`, `ANSWER_FIELDS` and `ID_FIELDS` that it has.

    `EVIDENCE_FIELD`, where the row has it, lists the gold documents.

    Raises:
      BadRecord: a field is missing or mistyped.
    """
    name = present_field(row, *ANSWER_FIELDS)
    answers = None if name is None else to_answers(row[name], name)
    documents = to_answers(row.get(EVIDENCE_FIELD), EVIDENCE_FIELD)
    return make_question(row, answers, source, position, evidence=(documents,) if documents else ())


def make_question(
    row: Row,
    answers: tuple[str, ...] | None,
    source: Source,
    position: int,
    evidence: tuple[tuple[str, ...], ...] = (),
) -> Question | LeftOut:
    """The question of a row whose gold answers have been found already.

    Raises:
      BadRecord: the question is missing, or it or its id is mistyped.
    """
    question = string_field(row, *TEXT_FIELDS).strip()
    if not question:
        return LeftOut(LeaveOutReason.EMPTY_QUESTION, position)
    question_id = id_field(row, *ID_FIELDS) or source.record_id(position)
    return Question(question_id, question, answers, position, evidence)


def to_answers(value: object, name: str) -> tuple[str, ...] | None:
    """Gold answers from a list of strings, one string, SQuAD's `{"text": [...]}`, or null (unknown).

    Raises:
      BadRecord: `bad_field`, for anything else.
    """
    if isinstance(value, Mapping):
        value = value.get("text")
    if value is None:
        return None
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple) and all(isinstance(answer, str) for answer in value):
        return tuple(dict.fromkeys(value))
    raise BadRecord(
        RejectReason.BAD_FIELD,
        f"field {name!r}: expected a string or a list of strings, got {type(value).__name__}",
    )


def parse_answer_list(cell: str) -> list[str] | None:
    """The answers in a table's cell that holds a JSON or Python list of strings; None if it holds none."""
    if not (cell.startswith("[") and cell.endswith("]")):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, list) and all(isinstance(answer, str) for answer in value):
            check_encodable("".join(value), cell[:EXCERPT_CHARACTERS])
            return value
    return None
