"""Training questions from DPR's files and from retrievals."""

import json
from pathlib import Path

import pytest

from rag_core.context import PassageText
from rag_core.corpus import Source
from rag_core.records import LeaveOutReason, LeftOut, Reject, RejectReason
from rag_core.storage import LocalStorage
from rag_core.training.examples import TrainingQuestion, mine_hard_negatives, read_dpr_training

PARIS = {"title": "Paris", "text": "Paris lies on the Seine.", "score": 1000, "passage_id": "12"}
LYON = {"title": "Lyon", "text": "Lyon lies on the Rhône."}


def read(tmp_path: Path, content: str | bytes) -> list[TrainingQuestion | LeftOut | Reject]:
    path = tmp_path / "train.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_dpr_training(LocalStorage(), Source(str(path), "dpr_training")))


def test_questions_with_their_passages(tmp_path: Path) -> None:
    rows = [
        {
            "dataset": "nq",
            "question": "which river is in paris",
            "answers": ["Seine", "the Seine"],
            "positive_ctxs": [PARIS],
            "negative_ctxs": [LYON],
            "hard_negative_ctxs": [LYON, {"text": "no title"}],
        },
        {"id": 7, "question": "q", "answers": [], "positive_ctxs": [LYON]},
    ]
    assert read(tmp_path, json.dumps(rows, indent=1)) == [
        TrainingQuestion(
            "train:0",
            "which river is in paris",
            ("Seine", "the Seine"),
            (PassageText("Paris", PARIS["text"]),),
            (PassageText("Lyon", LYON["text"]), PassageText("", "no title")),
            0,
        ),
        TrainingQuestion("7", "q", (), (PassageText("Lyon", LYON["text"]),), (), 1),
    ]


def test_what_cannot_be_trained_on_is_told(tmp_path: Path) -> None:
    rows = [
        {"question": "q", "answers": ["a"], "positive_ctxs": []},
        {"question": " ", "positive_ctxs": [PARIS]},
        "not an object",
        {"question": "q", "positive_ctxs": [{"title": "no text"}]},
        {"question": "q", "positive_ctxs": PARIS},
        {"positive_ctxs": [PARIS]},
        {"question": "last", "positive_ctxs": [PARIS]},
    ]
    found = read(tmp_path, json.dumps(rows))
    assert found[0] == LeftOut(LeaveOutReason.NO_POSITIVE, 0)
    assert found[1] == LeftOut(LeaveOutReason.EMPTY_QUESTION, 1)
    for position, message in (
        (2, "expected an object, got str"),
        (3, "field 'text' is missing"),
        (4, "'positive_ctxs': expected a list"),
        (5, "field 'question' is missing"),
    ):
        reject = found[position]
        assert isinstance(reject, Reject)
        assert (reject.reason, reject.position) == (RejectReason.BAD_FIELD, position)
        assert message in reject.message
    assert isinstance(found[6], TrainingQuestion)


@pytest.mark.parametrize(
    "content", ['[{"question": "q", "positive_ctxs": [{"text": "t"}]}, {"que', "{}", "text"]
)
def test_a_file_that_is_no_whole_list_is_told_after_what_came_before(tmp_path: Path, content: str) -> None:
    *before, last = read(tmp_path, content)
    assert isinstance(last, Reject)
    assert last.reason is RejectReason.TRUNCATED_FILE
    assert len(before) == content.startswith("[")


RETRIEVAL = {
    "question_id": "q1",
    "question": "which river is in paris",
    "answers": ["Seine"],
    "passages": [
        LYON,
        PARIS,
        {"title": "Seine", "text": "The Seine is a river."},
        {"title": "", "text": "Gold"},
    ],
}


def test_high_ranked_passages_without_the_answer_are_hard_negatives() -> None:
    texts = [PassageText(passage["title"], passage["text"]) for passage in RETRIEVAL["passages"]]
    mined = mine_hard_negatives(RETRIEVAL, 4, most=5)
    assert mined == TrainingQuestion(
        "q1", "which river is in paris", ("Seine",), (texts[1], texts[2]), (texts[0], texts[3]), 4
    )
    fewer = mine_hard_negatives(RETRIEVAL, 4, most=1)
    assert isinstance(fewer, TrainingQuestion)
    assert (fewer.positives, fewer.hard_negatives) == ((texts[1],), (texts[0],))


@pytest.mark.parametrize("answers", [["Loire"], [], None])
def test_a_retrieval_without_the_answer_trains_nothing(answers: list[str] | None) -> None:
    assert mine_hard_negatives(RETRIEVAL | {"answers": answers}, 3, most=5) == LeftOut(
        LeaveOutReason.NO_POSITIVE, 3
    )
