"""The documents that a RAG model is trained with: searched for by the question encoder, given, or none.

Searched for at every step with the question encoder as it then is, from an index that stays as it is
(Lewis et al. 2020, section 2.4). Given ones (by BM25, or by a retriever that is to stay frozen) keep the
scores that they came with. None: closed book.

Legend: B questions, K documents of each, D embedding size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from rag_core.context import PassageText
from rag_core.mips.index import MipsIndex
from rag_core.training.rag_loss import NO_SCORE, document_scores

_SEARCH_BYTES = 1 << 28
_TEXTS_KEPT = 200_000  # passages whose texts stay in memory: some 150 MB
_FEWEST_TO_JUDGE = 8  # questions of a batch; fewer may well be about the same
_EVEN = 0.99


@dataclass(frozen=True)
class RagQuestion:
    """A question to train on or to validate with.

    Attributes:
      answers: gold answers, or the label.
      passages: those that a retriever gave it, best first; empty where they are searched for.
      scores: theirs, float32.
      source: the path that it was read from.
      position: 0-based record there.
    """

    question_id: str
    question: str
    answers: tuple[str, ...]
    passages: tuple[PassageText, ...] = ()
    scores: tuple[float, ...] = ()
    source: str = ""
    position: int = 0

    @property
    def characters(self) -> int:
        """Of the question and of the passages that it has."""
        return len(self.question) + sum(len(passage.title) + len(passage.text) for passage in self.passages)


@dataclass(frozen=True)
class Documents:
    """The documents of some questions.

    Attributes:
      passages: B lists of K; where a question has fewer, its last one fills up, with the score `NO_SCORE`.
        Closed book: no list has any.
      scores: d(z)·q(x) [B, K], with a graph to the question encoder where it is trained; closed book
        zeros [B, 1].
    """

    passages: list[list[PassageText]]
    scores: Tensor

    @property
    def present(self) -> list[list[PassageText]]:
        """The passages that are there."""
        there = (self.scores.detach() > NO_SCORE).tolist()
        return [
            [passage for passage, is_there in zip(row, flags, strict=False) if is_there]
            for row, flags in zip(self.passages, there, strict=True)
        ]


class DocumentSource(Protocol):
    """Where documents come from."""

    @property
    def fixed(self) -> bool:
        """Whether what is found depends on the questions alone, not on weights as they are at the time."""
        ...

    def find(self, questions: Sequence[RagQuestion]) -> Documents:
        """The documents of these questions, with a graph where gradients are enabled and there is one."""
        ...


class QuestionTower(Protocol):
    """A question encoder as it is trained."""

    @property
    def model(self) -> nn.Module:
        """Its weights."""
        ...

    def encode(self, first: Sequence[str], second: Sequence[str] | None) -> Tensor:
        """q(x) [N, D]."""
        ...


class SearchedDocuments:
    """The K best passages of an index for the question encoder as it is at the time."""

    fixed = False

    def __init__(self, tower: QuestionTower, index: MipsIndex, n_docs: int):
        """Holds what is searched with.

        Args:
          tower: gives vectors of the index's dimension.
          n_docs: K; all passages where the index has fewer.
        """
        self._tower, self._index = tower, index
        self._n_docs = min(n_docs, index.live_rows)
        self._texts: dict[int, PassageText] = {}

    def find(self, questions: Sequence[RagQuestion]) -> Documents:
        """Searches with the vectors, then scores what was found with their graph."""
        vectors = self._tower.encode([question.question for question in questions], None)
        asked = vectors.detach().float().cpu().numpy()
        rows = self._index.search(asked, self._n_docs, memory_bytes=_SEARCH_BYTES).rows  # [B, K]
        there = rows >= 0  # an approximate search may find fewer
        rows = np.where(there, rows, rows[:, :1])
        stored = torch.from_numpy(self._index.vectors(rows.reshape(-1)).reshape(*rows.shape, -1))
        scores = document_scores(vectors, stored.to(vectors))
        scores = scores.masked_fill(~torch.from_numpy(there).to(scores.device), NO_SCORE)
        return Documents(self._passages(rows), scores)

    def _passages(self, rows: np.ndarray) -> list[list[PassageText]]:
        unknown = np.array(sorted({*rows.reshape(-1).tolist()} - self._texts.keys()), dtype=np.int64)
        if len(self._texts) + len(unknown) > _TEXTS_KEPT:
            self._texts.clear()
            unknown = np.unique(rows)
        if len(unknown):
            taken = self._index.passages(unknown).select(["title", "text"]).to_pylist()
            for row, passage in zip(unknown.tolist(), taken, strict=True):
                self._texts[row] = PassageText(passage["title"], passage["text"])
        return [[self._texts[row] for row in found] for found in rows.tolist()]


class GivenDocuments:
    """The first K passages that came with each question, with their scores: nothing of them is trained."""

    fixed = True

    def __init__(self, n_docs: int, device: torch.device):
        """Args: `n_docs`: K at most. `device`: where the scores are wanted."""
        self._n_docs, self._device = n_docs, device

    def find(self, questions: Sequence[RagQuestion]) -> Documents:
        """Cuts and fills up what each question brought."""
        kept = [question.passages[: self._n_docs] for question in questions]
        most = max(len(passages) for passages in kept)
        scores = np.full((len(questions), most), NO_SCORE, dtype=np.float32)
        for row, (question, passages) in enumerate(zip(questions, kept, strict=True)):
            scores[row, : len(passages)] = question.scores[: len(passages)]
        filled = [[*passages, *passages[-1:] * (most - len(passages))] for passages in kept]
        return Documents(filled, torch.from_numpy(scores).to(self._device))


class NoDocuments:
    """Closed book: the question alone stands as a document of prior 1."""

    fixed = True

    def __init__(self, device: torch.device):
        """Args: `device`: where the scores are wanted."""
        self._device = device

    def find(self, questions: Sequence[RagQuestion]) -> Documents:
        """Nothing, with certainty."""
        return Documents([[] for _ in questions], torch.zeros(len(questions), 1, device=self._device))


class RetrievalWatch:
    """How peaked p(z|x) is and how varied what was found, over a step, to notice a collapse of the retriever.

    A collapsed retriever finds the same documents whatever is asked, and the generator learns to do without
    them (Lewis et al. 2020, appendix on retrieval collapse).
    """

    def __init__(self) -> None:
        """Begins with no question seen."""
        self._entropy, self._questions, self._found = 0.0, 0, 0
        self._distinct: set[PassageText] = set()

    def add(self, documents: Documents) -> None:
        """Enters the documents of some questions; those of a single document each tell nothing."""
        scores = documents.scores.detach().double()
        if scores.shape[1] < 2:
            return
        log_prior = scores.log_softmax(dim=-1)
        entropy = -(log_prior.exp() * log_prior).sum(dim=-1) / np.log(scores.shape[1])
        self._entropy += entropy.sum().item()
        self._questions += len(scores)
        for row in documents.present:
            self._found += len(row)
            self._distinct.update(row)

    def figures(self) -> dict[str, float]:
        """`prior_entropy`, the mean entropy of p(z|x) over log K, 0 to 1; `distinct_passages`, for each question.

        Of the latter there are K where no two questions found the same, and K / B where all did. {} where
        nothing was entered.
        """
        if not self._questions:
            return {}
        return {
            "prior_entropy": self._entropy / self._questions,
            "distinct_passages": len(self._distinct) / self._questions,
        }


def collapse_warning(figures: Mapping[str, float], batch_questions: int, n_docs: int) -> str | None:
    """A sentence where `RetrievalWatch.figures`, as means over steps, look like a collapsed retriever."""
    if "distinct_passages" not in figures:
        return None
    distinct = figures["distinct_passages"] * batch_questions
    if batch_questions >= _FEWEST_TO_JUDGE and distinct <= 2 * n_docs:
        return (
            f"the retriever has collapsed: {batch_questions} questions found {distinct:.0f} different passages; "
            "start from a retriever trained with train_retriever, or lower --learning_rate"
        )
    if figures["prior_entropy"] > _EVEN:
        return (
            f"p(z|x) is nearly even (entropy {figures['prior_entropy']:.3f} of 1): the question encoder does not "
            "tell its documents apart; start from one trained with train_retriever"
        )
    return None
