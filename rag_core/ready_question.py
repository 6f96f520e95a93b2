"""Questions made ready for the decoders: as token ids, with their documents' prior."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rag_core.answers import RetrievedQuestion, Unanswered
from rag_core.context import QuestionTooLongError
from rag_core.generator import Generator
from rag_core.marginalize import document_log_prior
from rag_core.records import RejectReason

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class ReadyQuestion:
    """A question as token ids.

    Attributes:
      number: its place in the caller's sequence.
      all_contexts: one a passage; closed book one, the question alone, which stands as a document of prior 1.
      all_log_prior: log p(z|x) of each, float64 [len(all_contexts)].
      num_passages: K; 0 for closed book.
      kept: the contexts to read, int64; the others are pruned.
    """

    number: int
    all_contexts: list[list[int]]
    all_log_prior: Tensor
    num_passages: int
    kept: NDArray[np.int64]

    @property
    def contexts(self) -> list[list[int]]:
        """Those to read."""
        return [self.all_contexts[document] for document in self.kept]

    @property
    def log_prior(self) -> Tensor:
        """log p(z|x) of those to read; not renormalised."""
        return self.all_log_prior[torch.from_numpy(self.kept)]

    @property
    def prior(self) -> NDArray[np.float64]:
        """p(z|x) of every passage, float64 [K]."""
        return self.all_log_prior.exp().numpy()[: self.num_passages]

    @property
    def pruned_mass(self) -> float:
        """Σ p(z|x) of the passages that are pruned; 0 where none is."""
        pruned = np.delete(self.all_log_prior.exp().numpy(), self.kept)
        return float(pruned.sum())

    @property
    def longest(self) -> int:
        """Tokens of the longest context to read."""
        return max(len(context) for context in self.contexts)

    def over_passages(self, values: NDArray[np.float64], fill: float) -> NDArray[np.float64]:
        """Values of the contexts read [len(kept), …], as values of every passage [K, …]."""
        spread = np.full((len(self.all_contexts), *values.shape[1:]), fill)
        spread[self.kept] = values
        return spread[: self.num_passages]

    def pruned(self, mass: float) -> "ReadyQuestion":
        """Without the least probable documents, of total p(z|x) at most `mass`, in [0, 1); 0 keeps all."""
        prior = self.all_log_prior.exp().numpy()
        ascending = np.argsort(prior, kind="stable")[:-1]  # the most probable always stays
        dropped = ascending[prior[ascending].cumsum() <= mass]
        kept = np.arange(len(prior)) if mass == 0 else np.delete(np.arange(len(prior)), dropped)
        return dataclasses.replace(self, kept=kept)


def ready_questions(
    generator: Generator, questions: Sequence[RetrievedQuestion]
) -> tuple[list[ReadyQuestion], dict[int, Unanswered]]:
    """Tokenises questions with their passages.

    Returns:
      The questions that can be answered, and by number those that cannot.
    """
    ready: list[ReadyQuestion] = []
    unanswered: dict[int, Unanswered] = {}
    for number, question in enumerate(questions):
        scores = np.asarray(question.scores)
        if scores.shape != (len(question.passages),):
            raise ValueError(
                f"question {number}: {len(question.passages)} passages and scores of shape {scores.shape}"
            )
        if not np.isfinite(scores).all():
            unanswered[number] = Unanswered(
                RejectReason.NOT_FINITE,
                "a passage's score is NaN or infinite; finite inner products are expected",
            )
            continue
        try:
            contexts = generator.contexts(question.question, question.passages)
        except QuestionTooLongError as error:
            unanswered[number] = Unanswered(RejectReason.BAD_FIELD, str(error))
            continue
        log_prior = document_log_prior(
            torch.from_numpy(scores.astype(np.float64) if len(scores) else np.zeros(1))
        )
        ready.append(ReadyQuestion(number, contexts, log_prior, len(scores), np.arange(len(contexts))))
    return ready, unanswered


def question_batches(questions: Sequence[ReadyQuestion], batch_tokens: int) -> Iterator[list[ReadyQuestion]]:
    """Questions in batches of at most `batch_tokens`, padding included, or of one question.

    Questions of similar length go together, so the order is not the caller's.
    """
    by_length = sorted(questions, key=lambda question: -question.longest)
    return batches_within(by_length, lambda question: question, batch_tokens)


def batches_within(
    items: Iterable[Item], question_of: Callable[[Item], ReadyQuestion], batch_tokens: int
) -> Iterator[list[Item]]:
    """Items in their order, in batches whose questions take at most `batch_tokens`, padding included, or of one."""
    batch: list[Item] = []
    documents = longest = 0
    for item in items:
        question = question_of(item)
        documents += len(question.kept)
        longest = max(longest, question.longest)
        if batch and documents * longest > batch_tokens:
            yield batch
            batch, documents, longest = [], len(question.kept), question.longest
        batch.append(item)
    if batch:
        yield batch


def not_finite(generator: Generator) -> Unanswered:
    """What a question gets for which the model gave NaN or infinity."""
    return Unanswered(
        RejectReason.NOT_FINITE,
        f"the generator ({str(generator.model.dtype).removeprefix('torch.')}) gave a probability that is NaN "
        "or infinite; if many questions end so, try --dtype float32",
    )
