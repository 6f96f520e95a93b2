"""SQuAD's JSON (1.1 and 2.0): its questions, in the file's order, with their distinct answers.

A question that SQuAD 2.0 marks as impossible has no answers: an empty list, not an unknown one.
"""

from collections.abc import Iterator

from rag_core.corpus.files import read_blocks
from rag_core.corpus.rows import BadRecord, Row, convert_rows
from rag_core.corpus.source import Source
from rag_core.corpus.squad import read_paragraphs
from rag_core.questions.rows import make_question
from rag_core.records import LeftOut, Question, Reject, RejectReason
from rag_core.storage import Storage


def read_squad(storage: Storage, source: Source) -> Iterator[Question | LeftOut | Reject]:
    """The questions of a SQuAD file; a question's number counts over the whole file."""
    return convert_rows(source, _read_rows(storage, source), _to_question)


def _read_rows(storage: Storage, source: Source) -> Iterator[Row | BadRecord]:
    for paragraph in read_paragraphs(read_blocks(storage, source)):
        if isinstance(paragraph, BadRecord):
            yield paragraph
            continue
        questions = paragraph.get("qas", [])
        if not isinstance(questions, list):
            yield BadRecord(RejectReason.BAD_FIELD, "field 'qas': expected a list of questions")
            continue
        for question in questions:
            if isinstance(question, dict):
                yield question
            else:
                yield BadRecord(RejectReason.BAD_FIELD, f"expected a question, got {type(question).__name__}")


def _to_question(row: Row, source: Source, position: int) -> Question | LeftOut:
    answers = row.get("answers")
    if answers is None:
        return make_question(row, None, source, position)
    if not isinstance(answers, list) or not all(
        isinstance(answer, dict) and isinstance(answer.get("text"), str) for answer in answers
    ):
        raise BadRecord(RejectReason.BAD_FIELD, "field 'answers': expected a list of objects with 'text'")
    return make_question(row, tuple(dict.fromkeys(answer["text"] for answer in answers)), source, position)
