"""What is told of a run on its way, without a terminal."""

from collections.abc import Callable

import pytest

from pipelines.training import progress
from pipelines.training.progress import TrainingProgress, no_warning
from rag_core.training.run import HistoryRow, TrainingRun, TrainingSettings
from tests.rag_core.training.test_run import LineLearner


def told_by(
    mode: str, capsys: pytest.CaptureFixture[str], watch: Callable[[HistoryRow], str | None] = no_warning
) -> list[str]:
    settings = TrainingSettings(learning_rate=0.1, warmup_steps=0, validate_every=2)
    run = TrainingRun(LineLearner(4, scores=[3.0, 1.0, 2.0]), settings, ("distance", "lower"))
    run.step()  # by an earlier process: its row is not told again
    with TrainingProgress("train_it", run, mode, watch) as shown:
        while not run.done:
            shown.stepped(run.step())
    return capsys.readouterr().err.splitlines()


def test_each_validation_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = told_by("auto", capsys)
    assert first.startswith("train_it: step 2: loss ")
    assert first.endswith(", validation distance 1 (best so far)")
    assert second.startswith("train_it: step 4: loss ")
    assert second.endswith(", validation distance 2")


def test_now_and_then_a_line_tells_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    lines = [line for line in told_by("auto", capsys) if "steps/s" in line]
    assert [line.split(", loss")[0] for line in lines] == [
        "train_it: step 2 of 4",
        "train_it: step 3 of 4",
        "train_it: step 4 of 4",
    ]
    assert lines[-1].endswith("at most 0 s left")


def test_a_warning_follows_the_line_that_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    first, warning, second = told_by(
        "auto", capsys, lambda row: "it wanders" if row.scores["distance"] < 2 else None
    )
    assert first.startswith("train_it: step 2: ")
    assert warning == "train_it: warning: step 2: it wanders"
    assert second.startswith("train_it: step 4: ")


def test_nothing_is_told_where_nothing_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    assert told_by("none", capsys) == []
