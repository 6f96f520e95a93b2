"""Y, the union of the hypotheses of a question's beam searches, and what is known of each candidate.

Legend: Y candidates, K documents of the question.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rag_core.answers import Answer, AnswerToken, Candidate, DecodingSettings, Unanswered, answer_tokens
from rag_core.bounds import answer_bound, rounding
from rag_core.generator import Generator
from rag_core.marginalize import (
    document_posterior,
    rag_sequence_log_likelihood,
    rag_sequence_prefix_posteriors,
)
from rag_core.ready_question import ReadyQuestion, not_finite
from rag_core.search_history import SearchResult

# of a rival's tokens: so much is scored first, and mostly shows that it is no rival
_FIRST_SHARE = 0.25

# sums over documents, in float64, of the same terms in another order
_FLOAT64_SLACK = 1e-12

# candidate, document, how many of the candidate's tokens (the end token included) to score
Scoring = tuple[int, int, int]


class CandidateUnion:
    """The candidates of one question and their token log-probabilities under each document.

    Attributes:
      start: the question's first document has this number in its batch.
      targets: the candidates' tokens, without the decoder's prompt and the end token.
    """

    def __init__(
        self,
        generator: Generator,
        question: ReadyQuestion,
        start: int,
        searches: Sequence[SearchResult],
    ):
        """Merges the hypotheses of the question's searches, one a document."""
        self.start = start
        self.targets: list[tuple[int, ...]] = []
        self._generator = generator
        self._question = question
        self._searches = searches
        self._finite = all(search.finite for search in searches)
        self._cut: list[bool] = []
        # [candidate][document]: float64 [tokens + 1], None where not scored
        self._log_probs: list[list[NDArray[np.float64] | None]] = []
        numbers: dict[tuple[int, ...], int] = {}
        for document, search in enumerate(searches):
            for hypothesis in search.hypotheses:
                if hypothesis.tokens not in numbers:
                    numbers[hypothesis.tokens] = len(self.targets)
                    self.targets.append(hypothesis.tokens)
                    self._cut.append(hypothesis.cut)
                    self._log_probs.append([None] * len(searches))
                self._log_probs[numbers[hypothesis.tokens]][document] = hypothesis.log_probs[0]
        # log p(y|x,z) where scored, −inf elsewhere; float64 [Y, K]
        self._sums = np.array(
            [[-math.inf if scored is None else scored.sum() for scored in row] for row in self._log_probs]
        ).reshape(len(self.targets), len(searches))
        self._known = np.array(
            [[scored is not None for scored in row] for row in self._log_probs], dtype=bool
        ).reshape(self._sums.shape)
        self._bounds: NDArray[np.float64] | None = None
        self._unscored_by_beams = int((~self._known).sum())
        self._begun = self._known.copy()  # pairs scored at least in part
        self._pair_scorings = 0

    @property
    def _usable(self) -> bool:
        return self._finite and bool(self.targets) and bool(np.isfinite(self._sums[self._known]).all())

    def missing(self) -> list[Scoring]:
        """What scores every pair not scored yet; nothing where the question is lost anyway."""
        return self._scorings(~self._known) if self._usable else []

    def undecided(self, num_best: int) -> list[Scoring]:
        """What to score next, so that the `num_best` best become certain.

        A candidate's p(y|x) lies between its sum over the documents that were scored and that sum with
        the search's bound in place of each other document; the bounds allow for the rounding of scores that
        are computed along another way than the search's. The rows of the best lower bounds are
        completed first, since an answer's row has to be complete. Then, of each rival whose upper bound
        still reaches the worst of them, so many of the largest terms are scored as it takes, at least,
        to push it below. A pair of a rival is first scored for a part of its tokens, whose sum bounds the
        whole and mostly settles it.

        Returns:
          Nothing once the best are certain and their rows complete.
        """
        if not self._usable:
            return []
        lower = self._marginals(self._sums)
        best = _order(lower)[:num_best]
        incomplete = np.zeros_like(self._known)
        incomplete[best] = ~self._known[best]
        if incomplete.any():
            return self._scorings(incomplete)
        threshold = lower[best].min()
        bounds = np.where(self._known, self._sums, self._log_upper_bounds())
        rivals = self._marginals(bounds) + _FLOAT64_SLACK >= threshold
        rivals[best] = False
        terms = self._question.log_prior.numpy() + bounds
        wanted = np.zeros_like(self._known)
        for rival in np.flatnonzero(rivals & ~self._known.all(axis=1)):
            # even if each of its largest terms turned out to be nothing, fewer would not do
            documents = np.flatnonzero(~self._known[rival])
            documents = documents[np.argsort(-terms[rival, documents], kind="stable")]
            left = terms[rival].copy()
            for document in documents:
                wanted[rival, document] = True
                left[document] = -math.inf
                if np.logaddexp.reduce(left) + _FLOAT64_SLACK < threshold:
                    break
        begun = self._scorings(wanted & ~self._begun, _FIRST_SHARE)
        return begun + self._scorings(wanted & self._begun)

    def add(self, scoring: Scoring, log_probs: NDArray[np.float64]) -> None:
        """Takes the scores of a candidate's first tokens, or of all and the end token, under a document."""
        target, document, _ = scoring
        self._pair_scorings += not self._begun[target, document]
        self._begun[target, document] = True
        self._finite &= bool(np.isfinite(log_probs).all())
        if len(log_probs) <= len(self.targets[target]):
            bounds = self._log_upper_bounds()
            prefix_bound = log_probs.sum() + rounding(len(log_probs), self._generator.model.dtype)
            bounds[target, document] = np.minimum(bounds[target, document], prefix_bound)
            return
        self._log_probs[target][document] = log_probs
        self._sums[target, document] = log_probs.sum()
        self._known[target, document] = True

    def answer(self, settings: DecodingSettings) -> Answer | Unanswered:
        """Marginalises over the documents that were scored, and picks the best candidates."""
        if not self._usable:
            return not_finite(self._generator)
        generator, question = self._generator, self._question
        log_likelihoods = self._marginals(self._sums)
        lengths = np.array([len(target) + 1 for target in self.targets])
        order = _order(log_likelihoods / lengths**settings.length_penalty)
        best = int(order[0])
        sums, known = torch.from_numpy(self._sums[best]), torch.from_numpy(self._known[best])
        thorough = settings.decoding == "thorough"
        return Answer(
            answer=generator.decode(self.targets[best]),
            log_prob=float(log_likelihoods[best]),
            finish_reason="length" if self._cut[best] else "end",
            candidates=[
                Candidate(generator.decode(self.targets[i]), float(log_likelihoods[i]))
                for i in order[: settings.num_candidates]
            ],
            prior=question.prior,
            passage_log_probs=question.over_passages(sums.where(known, torch.nan).numpy(), math.nan),
            posterior=question.over_passages(document_posterior(question.log_prior, sums).numpy(), 0.0),
            tokens=self._tokens(best) if settings.token_posteriors else None,
            answer_bound=self._answer_bound(best, float(log_likelihoods[best])),
            pair_scorings=self._pair_scorings,
            pair_scorings_saved=self._unscored_by_beams - self._pair_scorings if thorough else 0,
        )

    def _marginals(self, log_probs: NDArray[np.float64]) -> NDArray[np.float64]:
        """logsumexp_z [log p(z|x) + log_probs] over [Y, K]."""
        return rag_sequence_log_likelihood(self._question.log_prior, torch.from_numpy(log_probs)).numpy()

    def _scorings(self, pairs: NDArray[np.bool_], share: float = 1.0) -> list[Scoring]:
        """Scorings of pairs, of this share of a candidate's tokens, end token included."""
        return [
            (target, document, math.ceil(share * (len(self.targets[target]) + 1)))
            for target, document in np.argwhere(pairs).tolist()
        ]

    def _log_upper_bounds(self) -> NDArray[np.float64]:
        """Of log p(y|x,z), where the beams did not score it; float64 [Y, K], 0 elsewhere."""
        if self._bounds is None:
            self._bounds = np.zeros_like(self._sums)
            for target, document in np.argwhere(~self._known).tolist():
                trace = self._searches[document].trace
                self._bounds[target, document] = trace.log_upper_bound(self.targets[target])
            dtype = self._generator.model.dtype
            roundings = np.array([rounding(len(target) + 1, dtype) for target in self.targets])
            self._bounds = np.minimum(self._bounds + roundings[:, None], 0.0)
        return self._bounds

    def _tokens(self, best: int) -> list[AnswerToken]:
        question, length = self._question, len(self.targets[best]) + 1
        log_probs = torch.full((len(question.all_contexts), length), -math.inf, dtype=torch.float64)
        for document, scored in zip(question.kept, self._log_probs[best], strict=True):
            if scored is not None:
                log_probs[document] = torch.from_numpy(scored)
        posteriors, increments = rag_sequence_prefix_posteriors(question.all_log_prior, log_probs)
        texts = self._generator.token_texts(self.targets[best])
        return answer_tokens(texts, increments.numpy(), posteriors[: question.num_passages].numpy())

    def _answer_bound(self, best: int, log_prob: float) -> float:
        unscored = np.flatnonzero(~self._known[best]).tolist()
        target = self.targets[best]
        log_prior = [float(self._question.log_prior[z]) for z in unscored]
        log_bounds = [self._searches[z].trace.log_upper_bound(target) for z in unscored]
        if self._question.pruned_mass > 0:  # whatever was pruned gives the answer a probability of 1 at most
            log_prior.append(math.log(self._question.pruned_mass))
            log_bounds.append(0.0)
        return answer_bound(log_prob, log_prior, log_bounds, len(target) + 1, self._generator.model.dtype)


def _order(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices, best first; of equal scores the first."""
    return np.argsort(-scores, kind="stable")
