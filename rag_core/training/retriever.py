"""Trains a bi-encoder on questions with their passages, and goes on exactly where it was interrupted.

Everything random is drawn from the seed, the epoch and the step, or saved: the order of questions, which
hard negatives are taken, dropout. So a run that was interrupted and one that was not give the same floats.
"""

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from rag_core.context import PassageText
from rag_core.errors import UsageError
from rag_core.storage import Storage
from rag_core.training.bi_encoder import BiEncoder
from rag_core.training.examples import TrainingQuestion
from rag_core.training.gradient_cache import Side, backward_by_chunks
from rag_core.training.in_batch import in_batch_nll
from rag_core.training.random_state import RandomState


@dataclass(frozen=True)
class RetrieverTraining:
    """How a retriever is trained; the defaults are DPR's (section 4.2) but for the batch.

    Attributes:
      batch_questions: questions whose passages are each other's negatives.
      chunk_texts: how many texts have a graph at a time: bounds memory, changes nothing else but dropout.
      hard_negatives: of each question, drawn anew at each step.
      epochs: times that every question is used; a last batch that is not full is left out.
      learning_rate: at its peak, after `warmup_steps`; it falls to 0 linearly.
      max_gradient_norm: gradients are scaled down to it.
      seed: of everything random.
    """

    batch_questions: int = 64
    chunk_texts: int = 32
    hard_negatives: int = 1
    epochs: int = 40
    learning_rate: float = 2e-5
    warmup_steps: int = 100
    max_gradient_norm: float = 2.0
    seed: int = 0


@dataclass(frozen=True)
class RetrieverBatch:
    """Questions and all their passages, each passage once.

    Attributes:
      questions: B.
      passages: P.
      positives: the passage that answers each question, int64 [B].
      excluded: bool [B, P], True for another passage that answers the question too.
    """

    questions: list[str]
    passages: list[PassageText]
    positives: Tensor
    excluded: Tensor


class RetrieverTrainer:
    """A run of training; call `step` until `done`."""

    def __init__(
        self, bi_encoder: BiEncoder, questions: Sequence[TrainingQuestion], settings: RetrieverTraining
    ):
        """Prepares the first step.

        Raises:
          UsageError: there are fewer questions than a batch has.
        """
        if len(questions) < settings.batch_questions:
            raise UsageError(
                f"{len(questions)} training questions for batches of {settings.batch_questions}; give more, or "
                "a smaller batch"
            )
        self._bi_encoder, self._questions, self._settings = bi_encoder, questions, settings
        self._steps_an_epoch = len(questions) // settings.batch_questions
        self.total_steps = self._steps_an_epoch * settings.epochs
        self.steps_done = 0
        self._optimizer = torch.optim.AdamW(
            bi_encoder.parameters(), lr=settings.learning_rate, eps=1e-8, weight_decay=0.0
        )
        torch.manual_seed(settings.seed)

    @property
    def done(self) -> bool:
        """Whether every epoch is over."""
        return self.steps_done >= self.total_steps

    def step(self) -> float:
        """Trains on the next batch; returns its loss, the mean −log p(z⁺|x) before the step."""
        batch = self._batch(self.steps_done)
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate(self.steps_done)
        self._optimizer.zero_grad()
        chunk = self._settings.chunk_texts
        device = next(self._bi_encoder.parameters()).device
        positives, excluded = batch.positives.to(device), batch.excluded.to(device)
        loss = backward_by_chunks(
            [
                Side(self._bi_encoder.encode_questions, _chunks(batch.questions, chunk)),
                Side(self._bi_encoder.encode_passages, _chunks(batch.passages, chunk)),
            ],
            lambda questions, passages: in_batch_nll(questions, passages, positives, excluded).mean(),
        )
        clip_grad_norm_(self._bi_encoder.parameters(), self._settings.max_gradient_norm)
        self._optimizer.step()
        self.steps_done += 1
        return loss.item()

    def save_checkpoint(self, storage: Storage, path: str) -> None:
        """Writes all that the rest of the run depends on, whole or not at all."""
        random = RandomState.now()
        state = {
            "steps_done": self.steps_done,
            "weights": self._bi_encoder.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": random.cpu,
            "random_cuda": random.cuda,
        }
        content = io.BytesIO()
        torch.save(state, content)
        with storage.create(path) as file:
            file.write(content.getbuffer())

    def resume(self, storage: Storage, path: str) -> None:
        """Goes on from a checkpoint of a run with the same questions and settings.

        Raises:
          FileNotFoundError: there is none.
          UsageError: it is damaged, or of another model.
        """
        with storage.open(path) as file:
            content = io.BytesIO(file.read())
        try:
            # weights only: a checkpoint holds tensors and numbers, so no code of it is ever run
            state: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
            self._bi_encoder.load_state_dict(state["weights"])
            self._optimizer.load_state_dict(state["optimizer"])
        except Exception as error:
            # by what is damaged: RuntimeError, UnpicklingError, KeyError, ValueError …
            raise UsageError(
                f"{path}: cannot be resumed from ({type(error).__name__}: {error}); remove it to start afresh"
            ) from error
        self.steps_done = state["steps_done"]
        RandomState(state["random"], state["random_cuda"]).restore()

    def _learning_rate(self, step: int) -> float:
        """Linear warm-up, then linear decay to 0 at the end, of step 0, 1, …"""
        warmup = min(self._settings.warmup_steps, self.total_steps)
        if step < warmup:
            return self._settings.learning_rate * (step + 1) / warmup
        return self._settings.learning_rate * (self.total_steps - step) / max(1, self.total_steps - warmup)

    def _batch(self, step: int) -> RetrieverBatch:
        epoch, number = divmod(step, self._steps_an_epoch)
        order = _epoch_order(self._settings.seed, epoch, len(self._questions))
        size = self._settings.batch_questions
        chosen = [self._questions[row] for row in order[number * size : (number + 1) * size]]
        draw = np.random.default_rng([self._settings.seed, epoch, number])
        return make_batch(chosen, self._settings.hard_negatives, draw)


@functools.lru_cache(maxsize=1)
def _epoch_order(seed: int, epoch: int, questions: int) -> np.ndarray:
    """The order of an epoch's questions; drawn once an epoch, not at each step."""
    return np.random.default_rng([seed, epoch]).permutation(questions)


def make_batch(
    questions: Sequence[TrainingQuestion], hard_negatives: int, draw: np.random.Generator
) -> RetrieverBatch:
    """The questions with their best positive passage and `hard_negatives` drawn from theirs.

    Passages that several questions bring are there once. A passage that answers a question too, brought
    by another one, is excluded for it: it would be taught as wrong.
    """
    places: dict[PassageText, int] = {}
    positives = [places.setdefault(question.positives[0], len(places)) for question in questions]
    for question in questions:
        count = min(hard_negatives, len(question.hard_negatives))
        if count:
            for number in sorted(draw.choice(len(question.hard_negatives), count, replace=False)):
                places.setdefault(question.hard_negatives[number], len(places))
    excluded = torch.zeros(len(questions), len(places), dtype=torch.bool)
    for row, question in enumerate(questions):
        for passage in question.positives[1:]:
            if passage in places and places[passage] != positives[row]:
                excluded[row, places[passage]] = True
    return RetrieverBatch(
        [question.question for question in questions], list(places), torch.tensor(positives), excluded
    )


def _chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Runs of at most `size` items."""
    return [items[begin : begin + size] for begin in range(0, len(items), size)]
