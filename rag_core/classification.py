"""Classification as generation: p(l|x) over a label set (Lewis et al. 2020, sections 2.1 and 3.4).

A label's target is tokenised as written, without special tokens and without the end token, so a label of
one token is a target of length one, for which RAG-Sequence and RAG-Token are the same model. Labels of
several tokens are scored as RAG-Sequence.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rag_core.answers import DEFAULT_BATCH_TOKENS, RetrievedQuestion, Unanswered
from rag_core.decoder import EncodedDocuments
from rag_core.device_memory import decided_within_memory
from rag_core.errors import UsageError
from rag_core.generator import Generator
from rag_core.marginalize import document_posterior, label_log_likelihoods
from rag_core.ready_question import (
    ReadyQuestion,
    not_finite,
    question_batches,
    ready_questions,
)
from rag_core.target_scoring import score_targets


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Labels and the texts that the generator would write for them, in the order given."""

    labels: tuple[str, ...]
    targets: tuple[str, ...]

    @classmethod
    def parse(cls, specifications: Sequence[str]) -> "LabelSet":
        """Reads `LABEL` or `LABEL=target text`; a label alone is its own target.

        Raises:
          UsageError: no label, an empty label or target, or a label given twice.
        """
        if not specifications:
            raise UsageError("--label_set: no label; give LABEL or LABEL=target text for each")
        labels, targets = [], []
        for specification in specifications:
            label, _, target = specification.partition("=")
            target = target if "=" in specification else label
            if not label.strip() or not target.strip():
                raise UsageError(
                    f"--label_set {specification!r}: an empty label or target; expected LABEL=target text"
                )
            if label in labels:
                raise UsageError(f"--label_set: the label {label} is given twice")
            labels.append(label)
            targets.append(target)
        return cls(tuple(labels), tuple(targets))

    def target_tokens(self, generator: Generator) -> list[tuple[int, ...]]:
        """The targets' token ids, without special tokens.

        Raises:
          UsageError: a target has no tokens, or is a prefix of another: p(l|x) of the longer could then never
            exceed that of the shorter. Two targets of equal tokens are prefixes of each other.
        """
        tokens = [
            tuple(generator.tokenizer(target, add_special_tokens=False)["input_ids"])
            for target in self.targets
        ]
        for i, shorter in enumerate(tokens):
            if not shorter:
                raise UsageError(
                    f"--label_set {self.labels[i]}: its target {self.targets[i]!r} has no tokens"
                )
            for j, longer in enumerate(tokens):
                if i != j and longer[: len(shorter)] == shorter:
                    raise UsageError(
                        f"--label_set: in the generator's tokens the target of {self.labels[i]} "
                        f"({self.targets[i]!r}) begins that of {self.labels[j]} ({self.targets[j]!r}); "
                        "choose targets of which none begins another"
                    )
        return tokens


@dataclass(frozen=True, slots=True)
class LabelDistribution:
    """The label of a question and what it rests on. K = 0 for closed book.

    Attributes:
      label: the most probable; of equal ones the first.
      probs: p(l|x) renormalised over the label set after marginalising, float64 [L].
      log_probs: log p(l|x), not renormalised, float64 [L].
      prior: p(z|x), float64 [K].
      posterior: p(z|x,l) for the label chosen, float64 [K].
      passage_label_probs: p(l|x,z), not renormalised, float64 [K, L].
    """

    label: str
    probs: NDArray[np.float64]
    log_probs: NDArray[np.float64]
    prior: NDArray[np.float64]
    posterior: NDArray[np.float64]
    passage_label_probs: NDArray[np.float64]


def classify_questions(
    generator: Generator,
    questions: Sequence[RetrievedQuestion],
    label_set: LabelSet,
    *,
    batch_tokens: int = DEFAULT_BATCH_TOKENS,
) -> list[LabelDistribution | Unanswered]:
    """Classifies questions (claims) from their passages.

    Args:
      batch_tokens: as in `DecodingSettings`.

    Returns:
      One result a question, in order. Where the device runs out of memory the budget is halved.

    Raises:
      RecordTooLarge: a question alone does not fit into the device's memory.
      UsageError: the label set does not fit the generator's tokens, see `LabelSet.target_tokens`.
    """
    targets = label_set.target_tokens(generator)
    generator.check_target_length(max(len(target) for target in targets))
    ready, unanswered = ready_questions(generator, questions)
    results: dict[int, LabelDistribution | Unanswered] = {**unanswered}

    def decide(
        waiting: Sequence[ReadyQuestion], budget: int
    ) -> Iterator[tuple[int, LabelDistribution | Unanswered]]:
        for batch in question_batches(waiting, budget):
            scored = _label_log_probs(generator, batch, targets, budget)
            for question, scores in zip(batch, scored, strict=True):
                finite = bool(scores.isfinite().all())
                yield (
                    question.number,
                    _distribution(question, scores, label_set) if finite else not_finite(generator),
                )

    by_length = sorted(ready, key=lambda question: -question.longest)
    results |= decided_within_memory(by_length, batch_tokens, generator.device, decide)
    return [results[number] for number in range(len(questions))]


def _label_log_probs(
    generator: Generator,
    questions: Sequence[ReadyQuestion],
    targets: Sequence[tuple[int, ...]],
    batch_tokens: int,
) -> tuple[torch.Tensor, ...]:
    """log p(l|x,z) of each question, float64 [K, L]."""
    contexts = [context for question in questions for context in question.contexts]
    documents = EncodedDocuments.pack(generator.decoder, generator.encode(contexts, batch_tokens))
    pairs = [(document, target) for document in range(len(documents)) for target in targets]
    scored = score_targets(generator, documents, pairs, batch_tokens)
    sums = torch.tensor([log_probs.sum() for log_probs in scored], dtype=torch.float64)
    return sums.view(len(documents), len(targets)).split([len(question.kept) for question in questions])


def _distribution(question: ReadyQuestion, scores: torch.Tensor, label_set: LabelSet) -> LabelDistribution:
    log_probs = label_log_likelihoods(question.log_prior, scores)
    best = int(np.argmax(log_probs.numpy()))
    passages = question.num_passages
    return LabelDistribution(
        label=label_set.labels[best],
        probs=log_probs.softmax(dim=-1).numpy(),
        log_probs=log_probs.numpy(),
        prior=question.prior,
        posterior=document_posterior(question.log_prior, scores[:, best]).numpy()[:passages],
        passage_label_probs=scores.exp().numpy()[:passages],
    )
