"""A bi-encoder as the training loop trains it: its batches, DPR's loss on them, its validation.

Everything random is drawn from the seed, the epoch and the step: the order of questions, and which hard
negatives are taken.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rag_core.context import PassageText
from rag_core.training.batches import EpochBatches, Groups
from rag_core.training.bi_encoder import BiEncoder
from rag_core.training.examples import TrainingQuestion
from rag_core.training.gradient_cache import Side, backward_by_chunks
from rag_core.training.in_batch import in_batch_nll, positive_ranks
from rag_core.training.replicas import Replicas

RECALL_CUTOFFS = (1, 5, 20)
_RANKED_AT_ONCE = 256  # questions whose scores over the whole pool are in memory


@dataclass(frozen=True)
class RetrieverTraining:
    """What a retriever is trained on at each step; the defaults are DPR's (section 4.2) but for the batch.

    Attributes:
      batch_questions: questions whose passages are each other's negatives.
      chunk_texts: how many texts have a graph at a time: bounds memory, changes nothing else but dropout.
      hard_negatives: of each question, drawn anew at each step.
      questions_per_title: up to so many questions whose positive passages share a title are in one batch:
        passages of one document are then each other's negatives, and each is encoded once. 1: questions are
        mixed at random.
      epochs: times that every question is used; a last batch that is not full is left out.
      max_steps: ends training before the epochs do; None: it does not.
      score_scale: inner products are multiplied by it before the softmax. 1 for DPR; normalised vectors
        have scores of at most 1, of which a softmax makes no distribution: 20 is usual for them.
      seed: of everything random.
    """

    batch_questions: int = 64
    chunk_texts: int = 32
    hard_negatives: int = 1
    questions_per_title: int = 1
    epochs: int = 40
    max_steps: int | None = None
    score_scale: float = 1.0
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


class RetrieverLearner:
    """A `run.Learner`: −log p(z⁺|x) over a batch's passages, and ranks over all validation passages."""

    def __init__(
        self,
        bi_encoder: BiEncoder,
        questions: Sequence[TrainingQuestion],
        settings: RetrieverTraining,
        validation: Sequence[TrainingQuestion] = (),
        replicas: Replicas | None = None,
    ):
        """Stores what the steps need.

        Args:
          questions: to train on.
          validation: held out; validation is left away where there are none.
          replicas: the processes that train together; one by default.

        Raises:
          UsageError: there are fewer questions than a batch has, or a batch is smaller than the processes are.
        """
        self._replicas = replicas or Replicas()
        self._replicas.check_batch(settings.batch_questions)
        self._bi_encoder, self._questions, self._settings = bi_encoder, questions, settings
        self._validation = pool_of(validation) if validation else None
        together = settings.questions_per_title
        titles = [question.positives[0].title for question in questions] if together > 1 else []
        self._batches = EpochBatches(
            len(questions),
            settings.batch_questions,
            settings.epochs,
            settings.seed,
            settings.max_steps,
            Groups(titles, together) if together > 1 else None,
        )

    @property
    def module(self) -> nn.Module:
        """The bi-encoder."""
        return self._bi_encoder

    @property
    def total_steps(self) -> int:
        """Full batches of all epochs."""
        return self._batches.total_steps

    def backward(self, step: int) -> Mapping[str, float]:
        """Adds the gradients of the step's batch; `loss` is its mean −log p(z⁺|x)."""
        batch = self.batch(step)
        encoder, chunk, share = self._bi_encoder, self._settings.chunk_texts, self._replicas.share
        device = encoder.device
        positives, excluded = batch.positives.to(device), batch.excluded.to(device)

        def loss_of(questions: Tensor, passages: Tensor) -> Tensor:
            questions, passages = self._replicas.gather(questions), self._replicas.gather(passages)
            scaled = questions * self._settings.score_scale
            return in_batch_nll(scaled, passages, positives, excluded).mean()

        loss = backward_by_chunks(
            [
                Side(encoder.encode_questions, _chunks(share(batch.questions), chunk)),
                Side(encoder.encode_passages, _chunks(share(batch.passages), chunk)),
            ],
            loss_of,
        )
        return {"loss": loss.item()}

    def validate(self) -> Mapping[str, float]:
        """DPR's average rank (0 is best) and recall@k of each question's positive among all passages held out.

        Other passages that answer a question count neither for nor against it.
        """
        pool = self._validation
        if pool is None:
            return {}
        questions = self._encode_all(self._bi_encoder.encode_questions, pool.questions, len)
        passages = self._encode_all(
            self._bi_encoder.encode_passages, pool.passages, lambda passage: len(passage.text)
        )
        ranks = []
        for begin in range(0, len(questions), _RANKED_AT_ONCE):
            rows = slice(begin, begin + _RANKED_AT_ONCE)
            excluded = torch.zeros(len(questions[rows]), len(passages), dtype=torch.bool)
            for row, others in enumerate(pool.others[rows]):
                excluded[row, list(others)] = True
            ranks.append(
                positive_ranks(
                    questions[rows],
                    passages,
                    pool.positives[rows].to(passages.device),
                    excluded.to(passages.device),
                )
            )
        rank = torch.cat(ranks).double()
        recalls = {f"recall@{k}": (rank < k).double().mean().item() for k in RECALL_CUTOFFS}
        return {"average_rank": rank.mean().item()} | recalls

    def batch(self, step: int) -> "RetrieverBatch":
        """The questions and passages of a step."""
        chosen = [self._questions[row] for row in self._batches.rows(step)]
        draw = np.random.default_rng([self._settings.seed, *self._batches.place(step)])
        return make_batch(chosen, self._settings.hard_negatives, draw)

    @torch.no_grad()
    def _encode_all(
        self, encode: Callable[[Any], Tensor], items: Sequence[Any], length: Callable[[Any], int]
    ) -> Tensor:
        """Vectors of all items [N, D], by all processes, in evaluation mode; texts of like length together."""
        order = sorted(range(len(items)), key=lambda number: length(items[number]))
        own = self._replicas.share(order)
        self._bi_encoder.eval()
        vectors = [
            encode([items[number] for number in chunk]) for chunk in _chunks(own, self._settings.chunk_texts)
        ]
        self._bi_encoder.train()
        device = self._bi_encoder.device
        gathered = self._replicas.gather(torch.cat(vectors) if vectors else torch.empty(0, 0, device=device))
        return gathered[torch.tensor(order, device=device).argsort()]


@dataclass(frozen=True)
class ValidationPool:
    """Questions held out, and all their passages, each once.

    Attributes:
      questions: N.
      passages: P.
      positives: the passage that answers each question, int64 [N].
      others: of each question, further passages that answer it.
    """

    questions: list[str]
    passages: list[PassageText]
    positives: Tensor
    others: list[tuple[int, ...]]


def pool_of(questions: Sequence[TrainingQuestion]) -> ValidationPool:
    """All positive and hard negative passages of the questions, in order of first mention."""
    places: dict[PassageText, int] = {}
    for question in questions:
        for passage in (*question.positives, *question.hard_negatives):
            places.setdefault(passage, len(places))
    positives = [places[question.positives[0]] for question in questions]
    others = [
        tuple({places[passage] for passage in question.positives[1:]} - {positive})
        for question, positive in zip(questions, positives, strict=True)
    ]
    texts = [question.question for question in questions]
    return ValidationPool(texts, list(places), torch.tensor(positives), others)


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
