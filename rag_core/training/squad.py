"""SQuAD's questions as training questions, with passages made as `chunk` makes them.

A question's positive is the passage of its paragraph that holds the answer; hard negatives are the passages
of the same article that do not.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from rag_core.context import PassageText
from rag_core.corpus.files import DamagedFileError, read_blocks
from rag_core.corpus.read import until_damage
from rag_core.corpus.rows import BadRecord, Row, convert_rows, id_field, string_field
from rag_core.corpus.source import Source
from rag_core.corpus.squad import read_paragraphs
from rag_core.metrics.retrieval import AnswerStrings
from rag_core.passages import split_document
from rag_core.questions.rows import ID_FIELDS
from rag_core.records import Document, LeaveOutReason, LeftOut, Reject, RejectReason
from rag_core.storage import Storage
from rag_core.training.examples import TrainingQuestion

_PASSAGE_WORDS = 100
_PLACE = "place in the article"  # under which a question's row carries its `_Place`


def read_squad_training(storage: Storage, source: Source) -> Iterator[TrainingQuestion | LeftOut | Reject]:
    """The questions of a SQuAD file; a question's number counts over the whole file.

    A question without an answer, or whose answers all run across the end of a passage, is left out: no
    passage answers it. Further passages of the article that hold an answer are further positives. Memory is
    bounded by an article.
    """
    rows = _question_rows(read_paragraphs(read_blocks(storage, source)))
    return until_damage(source, convert_rows(source, rows, _to_training_question))


@dataclass(frozen=True)
class _Article:
    """The passages of an article, and the same folded for the search of answers."""

    passages: list[PassageText]
    folded: list[str]


@dataclass(frozen=True)
class _Place:
    """Where a question stands: the paragraph's text, and the number of its first passage in the article."""

    article: _Article
    context: str
    first: int


def _question_rows(paragraphs: Iterator[Row | BadRecord]) -> Iterator[Row | BadRecord]:
    """Each question of each article, with its place."""
    for _, group in itertools.groupby(paragraphs, _title):
        article = _Article([], [])
        placed: list[tuple[_Place, list[object]]] = []
        damage: DamagedFileError | None = None
        try:
            for paragraph in group:
                if isinstance(paragraph, BadRecord):
                    yield paragraph
                    continue
                try:
                    placed.append(_placed(article, paragraph))
                except BadRecord as bad:
                    yield bad
        except DamagedFileError as error:
            damage = error  # met when looking for the article after this one, which is whole
        # only now, when all passages of the article are there
        for place, questions in placed:
            for question in questions:
                if isinstance(question, dict):
                    yield {**question, _PLACE: place}
                else:
                    yield BadRecord(
                        RejectReason.BAD_FIELD, f"expected a question, got {type(question).__name__}"
                    )
        if damage is not None:
            raise damage


def _title(paragraph: Row | BadRecord) -> object:
    return None if isinstance(paragraph, BadRecord) else paragraph.get("title")


def _placed(article: _Article, paragraph: Row) -> tuple[_Place, list[object]]:
    """Adds a paragraph's passages to its article; returns its place and its questions."""
    title, context = string_field(paragraph, "title", required=False), string_field(paragraph, "context")
    questions = paragraph.get("qas", [])
    if not isinstance(questions, list):
        raise BadRecord(RejectReason.BAD_FIELD, "field 'qas': expected a list of questions")
    place = _Place(article, context, len(article.passages))
    for passage in split_document(Document("", title, context, 0), passage_words=_PASSAGE_WORDS):
        article.passages.append(PassageText(title, passage.text))
        article.folded.append(AnswerStrings.fold(passage.text))
    return place, questions


def _to_training_question(row: Row, source: Source, position: int) -> TrainingQuestion | LeftOut:
    place = row[_PLACE]
    assert isinstance(place, _Place)
    question = string_field(row, "question").strip()
    if not question:
        return LeftOut(LeaveOutReason.EMPTY_QUESTION, position)
    answers = _answers(row)
    texts = tuple(dict.fromkeys(text for text, _ in answers))
    finder = AnswerStrings(texts)
    holding = [finder.found_in_folded(passage) for passage in place.article.folded]
    own = (_passage_at(place, start) for _, start in answers)
    positive = next((number for number in own if number < len(holding) and holding[number]), None)
    if positive is None:
        return LeftOut(LeaveOutReason.NO_POSITIVE, position)
    passages = list(zip(place.article.passages, holding, strict=True))
    others = (passage for number, (passage, holds) in enumerate(passages) if holds and number != positive)
    return TrainingQuestion(
        id_field(row, *ID_FIELDS) or source.record_id(position),
        question,
        texts,
        (place.article.passages[positive], *others),
        tuple(passage for passage, holds in passages if not holds),
        position,
    )


def _answers(row: Row) -> list[tuple[str, int]]:
    """Text and place of each answer; none where SQuAD 2.0 says that there is none."""
    answers = row.get("answers") or []
    if not isinstance(answers, list) or not all(
        isinstance(answer, dict)
        and isinstance(answer.get("text"), str)
        and isinstance(answer.get("answer_start"), int)
        for answer in answers
    ):
        raise BadRecord(
            RejectReason.BAD_FIELD,
            "field 'answers': expected a list of objects with 'text' and 'answer_start'",
        )
    return [(answer["text"], answer["answer_start"]) for answer in answers]


def _passage_at(place: _Place, start: int) -> int:
    """The number in the article of the passage that holds the word at a character of the paragraph."""
    before = place.context[:start]
    words = len(before.split())
    if before and not before[-1].isspace():
        words -= 1  # the last of them goes on at the character
    return place.first + words // _PASSAGE_WORDS
