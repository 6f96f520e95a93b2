"""The shared loop on a model of two numbers: schedule, history, best weights, patience, exact resumption."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from rag_core.errors import UsageError
from rag_core.storage import LocalStorage
from rag_core.training.run import TrainingDiverged, TrainingRun, TrainingSettings

SETTINGS = TrainingSettings(learning_rate=0.1, warmup_steps=2, validate_every=2, seed=5)


class Line(nn.Module):
    """y = dropout(w) · x + b, to be fitted to y = 3x."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1))
        self.bias = nn.Parameter(torch.ones(1))
        self.fixed = nn.Parameter(torch.ones(1, 1), requires_grad=False)


class LineLearner:
    """Noise in place of dropout; `scores` are given out one after the other, or the distance from 3."""

    def __init__(self, total_steps: int = 8, scores: list[float] | None = None, validates: bool = True):
        self.module = Line()
        self.total_steps = total_steps
        self._scores, self._validates = scores, validates
        self.weights_seen: list[float] = []

    def backward(self, step: int) -> Mapping[str, float]:
        noise = torch.rand(1)
        loss = ((self.module.weight * (step + 1) + self.module.bias - 3 * (step + 1)) ** 2 * noise).sum()
        loss.backward()
        return {"loss": loss.item(), "noise": noise.item()}

    def validate(self) -> Mapping[str, float]:
        self.weights_seen.append(self.module.weight.item())
        if not self._validates:
            return {}
        distance = abs(self.module.weight.item() - 3)
        return {"distance": self._scores.pop(0) if self._scores else distance}


def run_of(learner: LineLearner, settings: TrainingSettings = SETTINGS) -> TrainingRun:
    return TrainingRun(learner, settings, ("distance", "lower"))


@pytest.mark.parametrize(
    "schedule, expected",
    [("linear", [1 / 2, 1, 6 / 6, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]), ("constant", [1 / 2] + [1.0] * 7)],
)
def test_the_learning_rate_rises_and_then_falls_or_stays(schedule: str, expected: list[float]) -> None:
    run = run_of(LineLearner(), dataclasses.replace(SETTINGS, schedule=schedule))  # type: ignore[arg-type]
    assert [run.learning_rate(step) / 0.1 for step in range(8)] == pytest.approx(expected)


def test_the_history_has_the_start_the_means_between_rows_and_the_end() -> None:
    run = run_of(LineLearner(total_steps=5))
    told = []
    while not run.done:
        told.append(run.step())
    assert [row.step for row in run.history] == [0, 2, 4, 5]
    first, second, _, last = run.history
    assert (first.loss, first.gradient_norm, first.figures) == (None, None, {})
    assert second.loss == pytest.approx((told[0]["loss"] + told[1]["loss"]) / 2)
    assert second.figures == pytest.approx({"noise": (told[0]["noise"] + told[1]["noise"]) / 2})
    assert second.learning_rate == told[1]["learning_rate"] == 0.1
    assert last.loss == told[4]["loss"]
    assert last.gradient_norm == told[4]["gradient_norm"]
    assert last.seconds >= second.seconds > 0


def test_without_validation_every_row_has_a_loss_and_the_last_weights_stay() -> None:
    learner = LineLearner(validates=False)
    run = run_of(learner, dataclasses.replace(SETTINGS, validate_every=0, patience=1))
    while not run.done:
        run.step()
    assert [(row.step, row.scores, row.best) for row in run.history] == [(0, {}, False), (8, {}, False)]
    last = learner.module.weight.item()
    run.restore_best()
    assert learner.module.weight.item() == last


def test_training_stops_after_patience_and_the_best_weights_come_back() -> None:
    learner = LineLearner(total_steps=100, scores=[5.0, 1.0, 2.0, 1.0, 1.5])
    run = run_of(learner, dataclasses.replace(SETTINGS, patience=3))
    while not run.done:
        run.step()
    assert run.stopped_early
    assert run.steps_done == 8  # an equal score is not a better one
    assert [row.best for row in run.history] == [True, True, False, False, False]
    assert (run.best_score, run.best_step) == (1.0, 2)
    assert learner.module.weight.item() != learner.weights_seen[1]
    run.restore_best()
    assert learner.module.weight.item() == learner.weights_seen[1]


def test_a_higher_score_may_be_the_better_one() -> None:
    run = TrainingRun(LineLearner(4, scores=[1.0, 3.0, 2.0]), SETTINGS, ("distance", "higher"))
    while not run.done:
        run.step()
    assert (run.best_score, run.best_step) == (3.0, 2)


def test_between_equal_scores_the_lower_loss_decides() -> None:
    learner = LineLearner(total_steps=8)
    scores = iter([(0.5, 3.0), (0.9, 2.0), (0.9, 1.0), (0.9, 1.5), (0.8, 0.1)])
    learner.validate = lambda: dict(zip(("correct", "loss"), next(scores), strict=True))  # type: ignore[method-assign]
    run = TrainingRun(learner, SETTINGS, ("correct", "higher"))
    while not run.done:
        run.step()
    assert [row.best for row in run.history] == [True, True, True, False, False]
    assert (run.best_score, run.best_step) == (0.9, 4)


def without_seconds(run: TrainingRun) -> list[dict]:
    return [dataclasses.asdict(row) | {"seconds": None} for row in run.history]


@pytest.mark.parametrize("interrupted_after", [1, 3, 4])
def test_an_interrupted_run_gives_the_floats_of_one_that_was_not(
    interrupted_after: int, tmp_path: Path
) -> None:
    checkpoint = str(tmp_path / "checkpoint.pt")
    settings = dataclasses.replace(SETTINGS, patience=2, weight_decay=0.1)
    scores = [3.0, 1.0, 2.0, 0.5, 1.0]
    learner = LineLearner(scores=[*scores])
    whole = run_of(learner, settings)
    told = [whole.step() for _ in range(8)]

    before = run_of(LineLearner(scores=[*scores]), settings)
    found = [before.step() for _ in range(interrupted_after)]
    before.save_checkpoint(LocalStorage(), checkpoint)
    torch.manual_seed(99)  # what another process drew
    rest = LineLearner(scores=scores[len(before.history) :])
    after = run_of(rest, settings)
    after.resume(LocalStorage(), checkpoint)
    while not after.done:
        found.append(after.step())
    assert found == told
    assert without_seconds(after) == without_seconds(whole)
    assert after.history[-1].seconds > before.history[-1].seconds
    assert (after.best_score, after.best_step) == (whole.best_score, whole.best_step) == (0.5, 6)
    for run in (whole, after):
        assert run.done
        run.restore_best()
    assert torch.equal(rest.module.weight, learner.module.weight)


def test_only_matrices_that_are_trained_decay() -> None:
    learner = LineLearner()
    learner.backward = lambda step: (  # type: ignore[method-assign]
        (0 * (learner.module.weight.sum() + learner.module.bias.sum())).backward() or {"loss": 0.0}
    )
    run_of(learner, dataclasses.replace(SETTINGS, weight_decay=0.5)).step()
    assert learner.module.weight.item() == pytest.approx(1 - 0.05 * 0.5)
    assert learner.module.bias.item() == learner.module.fixed.item() == 1


def test_a_gradient_is_scaled_down_but_told_as_it_was() -> None:
    told = run_of(LineLearner(), dataclasses.replace(SETTINGS, max_gradient_norm=1e-3)).step()
    assert told["gradient_norm"] > 0.1


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_the_weights() -> None:
    learner = LineLearner()
    learner.module.weight.data.fill_(float("inf"))
    with pytest.raises(TrainingDiverged, match=r"step 0: the loss is inf.*--learning_rate"):
        run_of(learner).step()
    assert learner.module.bias.item() == 1


def test_what_cannot_be_resumed_is_said(tmp_path: Path) -> None:
    run = run_of(LineLearner())
    with pytest.raises(FileNotFoundError):
        run.resume(LocalStorage(), str(tmp_path / "none.pt"))
    (tmp_path / "damaged.pt").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(UsageError, match=r"damaged\.pt: cannot be resumed from"):
        run.resume(LocalStorage(), str(tmp_path / "damaged.pt"))
