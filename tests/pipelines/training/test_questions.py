"""Training questions with their ledger."""

import json
from pathlib import Path

import pytest

from pipelines.training.questions import Ledger, formats_of, read_training_questions, training_sources
from rag_core.errors import UsageError


def test_each_record_is_entered_into_the_ledger(tmp_path: Path) -> None:
    good = {"question": "q", "answers": ["a"], "positive_ctxs": [{"text": "a"}]}
    for name, rows in (("a", [good, {"question": "none", "positive_ctxs": []}]), ("b", [good, "text"])):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    ledger = Ledger()
    sources = training_sources([str(tmp_path / "*.json")], "auto", "questions")
    assert formats_of(sources) == ["dpr_training"]
    questions = read_training_questions(sources, ledger)
    assert [question.question_id for question in questions] == ["a:0", "b:0"]
    counts = ledger.counts
    assert (counts.read, counts.accepted) == (4, 2)
    assert counts.left_out == {"no_positive": 1}
    assert counts.rejected == {"bad_field": 1}
    assert [(reject.source, reject.position) for reject in ledger.rejects] == [(str(tmp_path / "b.json"), 1)]


def test_a_data_set_that_is_unfinished_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".work").mkdir()
    (tmp_path / ".work" / "plan.json").write_text("{}")
    with pytest.raises(UsageError, match=r"--validation .*: is unfinished; run the stage"):
        training_sources([str(tmp_path)], "auto", "validation")
