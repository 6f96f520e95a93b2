"""SQuAD's questions with the passages of their article."""

import json
from pathlib import Path
from typing import Any

from rag_core.context import PassageText
from rag_core.corpus import Source
from rag_core.records import LeaveOutReason, LeftOut, Reject, RejectReason
from rag_core.storage import LocalStorage
from rag_core.training.examples import TrainingQuestion
from rag_core.training.squad import read_squad_training

WORDS = [f"w{number}" for number in range(250)]
LONG = "  ".join(WORDS)  # two spaces: characters are not those of the passages
SHORT = "The café stands at w7 since 1900."


def asked(number: int, text: str, context: str, start: int | None = None) -> dict[str, Any]:
    start = context.index(text) if start is None else start
    return {
        "id": f"q{number}",
        "question": f"question {number}?",
        "answers": [{"text": text, "answer_start": start}],
    }


def read(tmp_path: Path, *articles: object) -> list[TrainingQuestion | LeftOut | Reject]:
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"version": "1.1", "data": articles}))
    return list(read_squad_training(LocalStorage(), Source(str(path), "squad")))


def passages(*runs: tuple[int, int]) -> list[PassageText]:
    return [PassageText("Words", " ".join(WORDS[begin:end])) for begin, end in runs]


def test_positive_is_the_passage_of_the_answer_and_negatives_are_the_articles_others(tmp_path: Path) -> None:
    first, second, third = passages((0, 100), (100, 200), (200, 250))
    short = PassageText("Words", SHORT)
    article = {
        "title": "Words",
        "paragraphs": [
            {"context": LONG, "qas": [asked(0, "w100", LONG), asked(1, "w99", LONG), asked(2, "w7", LONG)]},
            {"context": SHORT, "qas": [asked(3, "w7", SHORT), asked(4, "1900", SHORT)]},
        ],
    }
    other = {"title": "Else", "paragraphs": [{"context": "w100 too", "qas": [asked(5, "too", "w100 too")]}]}
    found = read(tmp_path, article, other)
    assert found[0] == TrainingQuestion("q0", "question 0?", ("w100",), (second,), (first, third, short), 0)
    by_number = [question for question in found if isinstance(question, TrainingQuestion)]
    assert by_number[1].positives == (first,)
    # another passage of the article that holds the answer is no negative
    assert (by_number[2].positives, by_number[2].hard_negatives) == ((first, short), (second, third))
    assert (by_number[3].positives, by_number[3].hard_negatives) == ((short, first), (second, third))
    assert by_number[4].positives == (short,)
    assert (by_number[5].positives, by_number[5].hard_negatives) == ((PassageText("Else", "w100 too"),), ())


def test_an_answer_inside_a_word_is_told_by_where_its_word_begins(tmp_path: Path) -> None:
    context = " ".join(["-"] * 99 + ["pre-war", "times"])  # the 100th word ends the first passage
    article = {"title": "", "paragraphs": [{"context": context, "qas": [asked(0, "war", context)]}]}
    [found] = read(tmp_path, article)
    assert isinstance(found, TrainingQuestion)
    assert found.positives[0].text.endswith("pre-war")


def test_questions_that_no_passage_answers_are_left_out(tmp_path: Path) -> None:
    impossible = {"id": "n", "question": "why?", "answers": [], "is_impossible": True}
    across = asked(1, "w99  w100", LONG)
    second_fits = {**across, "answers": [*across["answers"], asked(0, "w3", LONG)["answers"][0]]}
    questions = [impossible, across, {"id": "e", "question": " "}, second_fits]
    found = read(tmp_path, {"title": "T", "paragraphs": [{"context": LONG, "qas": questions}]})
    assert found[:3] == [
        LeftOut(LeaveOutReason.NO_POSITIVE, 0),
        LeftOut(LeaveOutReason.NO_POSITIVE, 1),
        LeftOut(LeaveOutReason.EMPTY_QUESTION, 2),
    ]
    assert isinstance(found[3], TrainingQuestion)
    assert found[3].positives[0].text.startswith("w0 w1")


def test_bad_records_are_told_and_the_others_kept(tmp_path: Path) -> None:
    good = asked(0, "w3", LONG)
    paragraphs = [
        {"context": LONG, "qas": [good, "text", {"question": "q", "answers": [{"text": "w3"}]}]},
        {"context": 7, "qas": []},
        {"context": LONG, "qas": {}},
        "text",
    ]
    found = read(tmp_path, {"title": "T", "paragraphs": paragraphs})
    rejects = [record for record in found if isinstance(record, Reject)]
    assert len(found) - len(rejects) == 1
    assert {reject.reason for reject in rejects} == {RejectReason.BAD_FIELD}
    told = " ".join(reject.message for reject in rejects)
    for message in ("got str", "'answer_start'", "'context'", "'qas'", "expected a paragraph"):
        assert message in told


def test_a_file_that_is_cut_off_is_told_after_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    article = {"title": "T", "paragraphs": [{"context": LONG, "qas": [asked(0, "w3", LONG)]}]}
    path.write_text(json.dumps({"data": [article, article]})[:-40])
    *before, last = read_squad_training(LocalStorage(), Source(str(path), "squad"))
    assert len(before) == 1
    assert isinstance(last, Reject)
    assert last.reason is RejectReason.TRUNCATED_FILE
