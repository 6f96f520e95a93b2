"""Questions made ready for the decoders, and batches of them that fit a token budget."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rag_core.answers import RetrievedQuestion, Unanswered
from rag_core.context import QuestionTooLongError
from rag_core.decoder import EncodedDocuments
from rag_core.generator import Generator
from rag_core.marginalize import document_log_prior
from rag_core.records import RejectReason


@dataclass(frozen=True, slots=True)
class ReadyQuestion:
    """A question as token ids.

    Attributes:
      number: its place in the caller's sequence.
      contexts: one a passage; closed book one, the question alone, which stands as a document of prior 1.
      log_prior: log p(z|x), float64 [len(contexts)].
      num_passages: K; 0 for closed book.
    """

    number: int
    contexts: list[list[int]]
    log_prior: Tensor
    num_passages: int

    @property
    def longest(self) -> int:
        """Tokens of the longest context."""
        return max(len(context) for context in self.contexts)


@dataclass(frozen=True, slots=True)
class QuestionBatch:
    """Questions whose documents are encoded together, question by question."""

    questions: list[ReadyQuestion]
    documents: EncodedDocuments

    @property
    def group_sizes(self) -> list[int]:
        """Documents of each question."""
        return [len(question.contexts) for question in self.questions]

    @property
    def log_prior(self) -> Tensor:
        """Of all documents, float64 [R]."""
        return torch.cat([question.log_prior for question in self.questions])


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
        ready.append(ReadyQuestion(number, contexts, log_prior, len(scores)))
    return ready, unanswered


def question_batches(
    generator: Generator, questions: Sequence[ReadyQuestion], batch_tokens: int
) -> Iterator[QuestionBatch]:
    """Encodes questions in batches of at most `batch_tokens`, padding included, or of one question.

    Questions of similar length go together, so the order is not the caller's.
    """
    batch: list[ReadyQuestion] = []
    documents = longest = 0
    for question in sorted(questions, key=lambda question: -question.longest):
        if batch and (documents + len(question.contexts)) * longest > batch_tokens:
            yield _encode(generator, batch, batch_tokens)
            batch, documents = [], 0
        longest = longest if batch else question.longest
        documents += len(question.contexts)
        batch.append(question)
    if batch:
        yield _encode(generator, batch, batch_tokens)


def _encode(generator: Generator, batch: list[ReadyQuestion], batch_tokens: int) -> QuestionBatch:
    contexts = [context for question in batch for context in question.contexts]
    return QuestionBatch(batch, generator.encode(contexts, batch_tokens))


def not_finite(generator: Generator) -> Unanswered:
    """What a question gets for which the model gave NaN or infinity."""
    return Unanswered(
        RejectReason.NOT_FINITE,
        f"the generator ({str(generator.model.dtype).removeprefix('torch.')}) gave a probability that is NaN "
        "or infinite; if many questions end so, try --dtype float32",
    )
