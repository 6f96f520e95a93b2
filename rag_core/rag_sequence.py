"""RAG-Sequence decoding (Lewis et al. 2020, section 2.5): Thorough and Fast.

One beam search a document; Y is the union of all hypotheses. Thorough Decoding scores each y in Y under
each document, by an extra pass where y was not in that document's beam. Fast Decoding takes
p(y|x,z) ≈ 0 there, and says by how much that can underestimate p(y|x).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rag_core.answers import Answer, AnswerToken, Candidate, DecodingSettings, Unanswered, answer_tokens
from rag_core.beam_search import SearchResult, beam_search
from rag_core.bounds import answer_bound
from rag_core.generator import Generator
from rag_core.marginalize import (
    document_posterior,
    rag_sequence_log_likelihood,
    rag_sequence_prefix_posteriors,
)
from rag_core.question_batch import QuestionBatch, ReadyQuestion, not_finite
from rag_core.target_scoring import score_targets


def decode_rag_sequence(
    generator: Generator, batch: QuestionBatch, settings: DecodingSettings
) -> list[Answer | Unanswered]:
    """Answers the questions of a batch, in its order."""
    documents = len(batch.documents)
    searches = beam_search(
        generator, batch.documents, [1] * documents, torch.zeros(documents, dtype=torch.float64), settings
    )
    unions: list[_Union] = []
    start = 0
    for question in batch.questions:
        stop = start + len(question.contexts)
        unions.append(_Union(question, start, searches[start:stop]))
        start = stop
    if settings.decoding == "thorough":
        _score_missing(generator, batch, unions, settings)
    return [union.answer(generator, settings) for union in unions]


def _score_missing(
    generator: Generator, batch: QuestionBatch, unions: Sequence["_Union"], settings: DecodingSettings
) -> None:
    """Scores every candidate under the documents whose beams did not hold it."""
    missing = [(union, target, document) for union in unions for target, document in union.missing()]
    pairs = [
        (union.start + document, (*union.targets[target], generator.end_token))
        for union, target, document in missing
    ]
    scored = score_targets(generator, batch.documents, pairs, settings.batch_tokens)
    for (union, target, document), log_probs in zip(missing, scored, strict=True):
        union.log_probs[target][document] = log_probs


class _Union:
    """Y of one question: its candidates and their token log-probabilities under each document."""

    def __init__(self, question: ReadyQuestion, start: int, searches: Sequence[SearchResult]):
        """Merges the hypotheses of a question's documents, the first being number `start` of the batch."""
        self.question = question
        self.start = start
        self._searches = searches
        self._finite = all(search.finite for search in searches)
        self._cut: list[bool] = []
        self.targets: list[tuple[int, ...]] = []
        # [target][document]: float64 [tokens + 1], None where not scored
        self.log_probs: list[list[NDArray[np.float64] | None]] = []
        numbers: dict[tuple[int, ...], int] = {}
        for document, search in enumerate(searches):
            for hypothesis in search.hypotheses:
                if hypothesis.tokens not in numbers:
                    numbers[hypothesis.tokens] = len(self.targets)
                    self.targets.append(hypothesis.tokens)
                    self._cut.append(hypothesis.cut)
                    self.log_probs.append([None] * len(searches))
                self.log_probs[numbers[hypothesis.tokens]][document] = hypothesis.log_probs[0]

    def missing(self) -> list[tuple[int, int]]:
        """(target, document) not scored yet; none where the question is lost anyway."""
        if not self._finite:
            return []
        return [
            (i, z) for i, row in enumerate(self.log_probs) for z, scored in enumerate(row) if scored is None
        ]

    def answer(self, generator: Generator, settings: DecodingSettings) -> Answer | Unanswered:
        """Marginalises over the documents and picks the best candidates."""
        sums = torch.tensor(
            [[-math.inf if scored is None else scored.sum() for scored in row] for row in self.log_probs],
            dtype=torch.float64,
        )  # [Y, K]
        known = torch.tensor([[scored is not None for scored in row] for row in self.log_probs])
        if not (self._finite and self.targets and sums[known].isfinite().all()):
            return not_finite(generator)
        log_prior = self.question.log_prior
        log_likelihoods = rag_sequence_log_likelihood(log_prior, sums).tolist()
        lengths = [len(target) + 1 for target in self.targets]
        maximised = [
            p / length**settings.length_penalty for p, length in zip(log_likelihoods, lengths, strict=True)
        ]
        order = sorted(range(len(maximised)), key=lambda i: -maximised[i])
        best, passages = order[0], self.question.num_passages
        return Answer(
            answer=generator.decode(self.targets[best]),
            log_prob=log_likelihoods[best],
            finish_reason="length" if self._cut[best] else "end",
            candidates=[
                Candidate(generator.decode(self.targets[i]), log_likelihoods[i])
                for i in order[: settings.num_candidates]
            ],
            prior=log_prior.exp().numpy()[:passages],
            passage_log_probs=sums[best].where(known[best], torch.nan).numpy()[:passages],
            posterior=document_posterior(log_prior, sums[best]).numpy()[:passages],
            tokens=self._tokens(generator, best) if settings.token_posteriors else None,
            answer_bound=self._bound(generator, best, log_likelihoods[best]),
        )

    def _tokens(self, generator: Generator, best: int) -> list[AnswerToken]:
        length = len(self.targets[best]) + 1
        log_probs = torch.stack(
            [
                torch.full((length,), -math.inf, dtype=torch.float64)
                if scored is None
                else torch.from_numpy(scored)
                for scored in self.log_probs[best]
            ]
        )
        posteriors, increments = rag_sequence_prefix_posteriors(self.question.log_prior, log_probs)
        texts = generator.token_texts(self.targets[best])
        return answer_tokens(texts, increments.numpy(), posteriors[: self.question.num_passages].numpy())

    def _bound(self, generator: Generator, best: int, log_prob: float) -> float:
        unscored = [z for z, scored in enumerate(self.log_probs[best]) if scored is None]
        target = self.targets[best]
        return answer_bound(
            log_prob,
            [float(self.question.log_prior[z]) for z in unscored],
            [self._searches[z].trace.log_upper_bound(target) for z in unscored],
            len(target) + 1,
            generator.model.dtype,
        )
