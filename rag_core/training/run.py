"""The training loop that retriever and RAG share: schedule, optimiser, validation, early stopping, checkpoints.

What is trained is a `Learner`; the loop knows nothing of its loss. Dropout is drawn from the seed and the
step, and a checkpoint holds all the rest, so a run that was interrupted and one that was not give the same
floats on a CPU.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from rag_core.errors import RagBeamError, UsageError
from rag_core.storage import Storage
from rag_core.training.checkpoint import read_checkpoint, write_checkpoint
from rag_core.training.optimizers import OptimizerName, Optimizers
from rag_core.training.replicas import Replicas

Schedule = Literal["linear", "constant"]
Direction = Literal["lower", "higher"]


class TrainingDiverged(RagBeamError):
    """A loss or a gradient is no longer a finite number (status 1)."""


class Learner(Protocol):
    """What is trained: a module, its loss on the batch of a step, its validation."""

    @property
    def module(self) -> nn.Module:
        """Its parameters that require gradients are trained; its state is what a checkpoint holds."""
        ...

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        ...

    def backward(self, step: int) -> Mapping[str, float]:
        """Adds the gradients of a step's batch to the parameters.

        The batch depends on nothing but the step (0, 1, …), and what is random on torch's generators, which
        the loop has seeded for it. Of several processes each adds its own share; the loop sums them.

        Returns:
          `loss`, the same in every process, and whatever figures should be told besides.
        """
        ...

    def validate(self) -> Mapping[str, float]:
        """Scores on questions that are held out, {} where there are none; the same in every process."""
        ...


@dataclass(frozen=True)
class TrainingSettings:
    """How the loop trains.

    Attributes:
      learning_rate: at its peak, after `warmup_steps` in which it rises linearly.
      schedule: `linear` falls to 0 at the last step, `constant` stays.
      optimizer: `adamw`, or `muon` for the matrices of hidden layers; see `Optimizers`.
      weight_decay: of matrices; biases and normalisations have none.
      max_gradient_norm: gradients are scaled down to it.
      validate_every: steps between two rows of the history; 0: a row at the end only.
      patience: validations in a row without a better score after which training stops; 0: never.
      seed: of everything random.
    """

    learning_rate: float = 2e-5
    warmup_steps: int = 100
    schedule: Schedule = "linear"
    optimizer: OptimizerName = "adamw"
    weight_decay: float = 0.0
    max_gradient_norm: float = 2.0
    validate_every: int = 0
    patience: int = 0
    seed: int = 0


@dataclass(frozen=True)
class HistoryRow:
    """How the run stood after a step.

    Attributes:
      step: steps done; 0 is before training.
      loss: mean since the row before; None before training.
      figures: means since the row before of what the learner told besides its loss.
      learning_rate: of the last step.
      gradient_norm: mean since the row before, before scaling.
      scores: of the validation; empty without one.
      best: whether these were the best scores so far.
      seconds: spent on the run so far, that of interrupted runs included.
    """

    step: int
    loss: float | None
    figures: dict[str, float]
    learning_rate: float
    gradient_norm: float | None
    scores: dict[str, float]
    best: bool
    seconds: float


@dataclass
class _Sums:
    """What is summed since the last row of the history."""

    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, figures: Mapping[str, float]) -> None:
        self.steps += 1
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        return {name: value / self.steps for name, value in self.sums.items()}


class TrainingRun:
    """A run of training; call `step` until `done`, then `restore_best`.

    Attributes:
      steps_done: so far.
      history: a row at the start, every `validate_every` steps and at the end.
      monitor: name of the score that tells the best weights.
      best_score: the monitored score of the best validation; None before one.
      best_step: when it was.
    """

    def __init__(
        self,
        learner: Learner,
        settings: TrainingSettings,
        monitor: tuple[str, Direction],
        replicas: Replicas | None = None,
    ):
        """Prepares the first step.

        Args:
          monitor: the validation's score that tells the best weights, and which way it is better; between
            equals the validation's `loss` decides, where it has one.
          replicas: the processes that train together; one by default.
        """
        self.learner, self.settings = learner, settings
        self.replicas = replicas or Replicas()
        self.steps_done = 0
        self.history: list[HistoryRow] = []
        self.best_score: float | None = None
        self.best_step = 0
        self.monitor, self._direction = monitor
        self._without_better = 0
        self._best_weights: dict[str, Tensor] | None = None
        self._since_row = _Sums()
        self._seconds = 0.0
        self._parameters = [parameter for parameter in learner.module.parameters() if parameter.requires_grad]
        self._optimizers = Optimizers(
            learner.module, settings.optimizer, settings.learning_rate, settings.weight_decay
        )

    @property
    def stopped_early(self) -> bool:
        """Whether `patience` is at an end."""
        return bool(self.settings.patience) and self._without_better >= self.settings.patience

    @property
    def done(self) -> bool:
        """Whether the last step is over, or patience is at an end."""
        return self.steps_done >= self.learner.total_steps or self.stopped_early

    def step(self) -> dict[str, float]:
        """Trains on the next batch, and validates where it is time to.

        Returns:
          The learner's figures (its `loss` is the one before the step), `learning_rate`, `gradient_norm`.

        Raises:
          TrainingDiverged: the loss or the gradient is not finite.
        """
        began = time.monotonic()
        if not self.history:
            self._add_row()  # what training starts from
        self._optimizers.zero_grad()
        torch.manual_seed(_step_seed(self.settings.seed, self.steps_done, self.replicas.index))
        figures = dict(self.learner.backward(self.steps_done))
        self.replicas.sum_gradients(self._parameters)
        norm = clip_grad_norm_(self._parameters, self.settings.max_gradient_norm).item()
        if not (math.isfinite(figures["loss"]) and math.isfinite(norm)):
            raise TrainingDiverged(
                f"step {self.steps_done}: the loss is {figures['loss']}, the gradient's norm {norm}; expected "
                "finite numbers: try a lower --learning_rate, more --warmup_steps or --precision float32"
            )
        self._optimizers.step(self.learning_rate(self.steps_done))
        told = figures | {"gradient_norm": norm}
        self._since_row.add(told)
        self.steps_done += 1
        self._seconds += time.monotonic() - began
        every = self.settings.validate_every
        if self.steps_done == self.learner.total_steps or (every and self.steps_done % every == 0):
            self._add_row()
        return told | {"learning_rate": self.learning_rate(self.steps_done - 1)}

    def learning_rate(self, step: int) -> float:
        """Of step 0, 1, …: linear warm-up, then linear decay to 0 at the end, or constant."""
        peak, total = self.settings.learning_rate, self.learner.total_steps
        warmup = min(self.settings.warmup_steps, total)
        if step < warmup:
            return peak * (step + 1) / warmup
        if self.settings.schedule == "constant":
            return peak
        return peak * (total - step) / max(1, total - warmup)

    def restore_best(self) -> None:
        """Puts the weights of the best validation into the module; the last ones stay without validation."""
        if self._best_weights is not None:
            self.learner.module.load_state_dict(self._best_weights)

    def save_checkpoint(self, storage: Storage, path: str, belongs_to: str = "") -> None:
        """Writes all that the rest of the run depends on, whole or not at all.

        Args:
          belongs_to: what tells this run from others with a model of the same shape.
        """
        state = {
            "belongs_to": belongs_to,
            "steps_done": self.steps_done,
            "weights": self.learner.module.state_dict(),
            "optimizers": self._optimizers.state_dict(),
            "history": [asdict(row) for row in self.history],
            "since_row": asdict(self._since_row),
            "best": (self.best_score, self.best_step, self._without_better),
            "best_weights": self._best_weights,
            "seconds": self._seconds,
        }
        write_checkpoint(storage, path, state)

    def resume(self, storage: Storage, path: str, belongs_to: str = "") -> None:
        """Goes on from a checkpoint of a run with the same learner and settings.

        Raises:
          FileNotFoundError: there is none.
          UsageError: it is damaged, of another model, or does not belong to `belongs_to`.
        """
        try:
            state = read_checkpoint(storage, path)
            if state.get("belongs_to", belongs_to) != belongs_to:
                raise ValueError("it is of a run with other settings or inputs")
            self.learner.module.load_state_dict(state["weights"])
            self._optimizers.load_state_dict(state["optimizers"])
            self.history = [HistoryRow(**row) for row in state["history"]]
            self._since_row = _Sums(**state["since_row"])
            self.best_score, self.best_step, self._without_better = state["best"]
            self._best_weights = state["best_weights"]
            self._seconds = state["seconds"]
            self.steps_done = state["steps_done"]
        except FileNotFoundError:
            raise
        except Exception as error:
            # by what is damaged: RuntimeError, UnpicklingError, KeyError, ValueError …
            raise UsageError(
                f"{path}: cannot be resumed from ({type(error).__name__}: {error}); remove it to start afresh"
            ) from error

    def _add_row(self) -> None:
        """Validates and notes how the run stands; remembers weights that are better than all before."""
        began = time.monotonic()
        scores = dict(self.learner.validate())
        best = bool(scores) and self._is_better(scores)
        if best:
            self.best_score, self.best_step, self._without_better = (
                scores[self.monitor],
                self.steps_done,
                0,
            )
            self._best_weights = {
                name: tensor.detach().to("cpu", copy=True)
                for name, tensor in self.learner.module.state_dict().items()
            }
        elif scores:
            self._without_better += 1
        means = self._since_row.means()
        self._since_row = _Sums()
        self._seconds += time.monotonic() - began
        self.history.append(
            HistoryRow(
                step=self.steps_done,
                loss=means.pop("loss", None),
                gradient_norm=means.pop("gradient_norm", None),
                figures=means,
                learning_rate=self.learning_rate(max(0, self.steps_done - 1)),
                scores=scores,
                best=best,
                seconds=self._seconds,
            )
        )

    def _is_better(self, scores: Mapping[str, float]) -> bool:
        """By the monitored score, and where that is the same by the loss, if it was validated too."""
        if self.best_score is None or math.isnan(self.best_score):
            return True
        score = scores[self.monitor]
        if score == self.best_score:
            best = next(row.scores for row in self.history if row.step == self.best_step)
            return "loss" in scores and scores["loss"] < best["loss"]
        return score < self.best_score if self._direction == "lower" else score > self.best_score


def _step_seed(seed: int, step: int, replica: int) -> int:
    """What a process's generators start a step from: another number for each seed, step and process."""
    return int(np.random.SeedSequence([seed, step, replica]).generate_state(1, np.uint64)[0] >> np.uint64(1))
