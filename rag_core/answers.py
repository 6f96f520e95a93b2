"""What the decoders take and give: retrieved questions, settings, answers with the whole distribution."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rag_core.context import PassageText
from rag_core.errors import UsageError
from rag_core.records import RejectReason

DEFAULT_BATCH_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class RetrievedQuestion:
    """A question with its retrieved passages.

    Attributes:
      passages: K passages, best first; none means closed book: an answer from the question alone.
      scores: inner products, float32 [K].
    """

    question: str
    passages: tuple[PassageText, ...]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class DecodingSettings:
    """How answers are searched for.

    The defaults are canonical beam search: hypotheses are compared by the sum of their
    log-probabilities, and a search stops when no running beam can beat its worst finished one.

    Attributes:
      decoding: `thorough` or `fast` for RAG-Sequence (section 2.5), `beam` for RAG-Token. Thorough scores
        only what can still change the answers listed, where the settings are `certifiable`.
      num_beams: beams of a search; 1 is greedy, on which `length_penalty` has no effect.
      max_new_tokens: counts the end token, not the decoder's prompt.
      min_new_tokens: the end token is not allowed before so many tokens.
      length_penalty: hypotheses are compared by log-probability / length^length_penalty.
      num_candidates: how many candidates an answer lists at most.
      no_repeat_ngram: n-grams of this size occur once; 0 for no such rule.
      token_posteriors: fill `Answer.tokens`.
      prune_mass: passages of so much total prior p(z|x), at most, are not read; `Answer.answer_bound` covers
        them. Greedy RAG-Token gives the answer that all passages would give.
      batch_tokens: context tokens, padding included, that are encoded and decoded together, so that memory
        is bounded; what cannot be split (a document, a question of RAG-Token) and has more goes alone. No
        result depends on it.

    Raises:
      UsageError: a value is out of range, or two do not go together.
    """

    model_type: Literal["rag_sequence", "rag_token"]
    decoding: Literal["thorough", "fast", "beam"]
    num_beams: int = 4
    max_new_tokens: int = 20
    min_new_tokens: int = 0
    length_penalty: float = 0.0
    num_candidates: int = 1
    no_repeat_ngram: int = 0
    token_posteriors: bool = False
    prune_mass: float = 0.0
    batch_tokens: int = DEFAULT_BATCH_TOKENS

    def __post_init__(self) -> None:
        decodings = {"rag_sequence": ("thorough", "fast"), "rag_token": ("beam",)}
        if self.model_type not in decodings:
            raise UsageError(f"--model_type {self.model_type}: expected {' or '.join(decodings)}")
        if self.decoding not in decodings[self.model_type]:
            expected = " or ".join(decodings[self.model_type])
            raise UsageError(f"--decoding {self.decoding}: {self.model_type} decodes by {expected}")
        for name in ("num_beams", "max_new_tokens", "num_candidates", "batch_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} {getattr(self, name)}: expected 1 or more")
        for name in ("min_new_tokens", "no_repeat_ngram"):
            if getattr(self, name) < 0:
                raise UsageError(f"--{name} {getattr(self, name)}: expected 0 or more")
        if not 0 <= self.prune_mass < 1:
            raise UsageError(f"--prune_mass {self.prune_mass}: expected a probability, 0 or more and below 1")
        if self.min_new_tokens > self.max_new_tokens:
            raise UsageError(
                f"--min_new_tokens {self.min_new_tokens} exceeds --max_new_tokens {self.max_new_tokens}"
            )
        if self.model_type == "rag_token" and self.num_candidates > self.num_beams:
            raise UsageError(
                f"--num_candidates {self.num_candidates}: RAG-Token has one search, of --num_beams "
                f"{self.num_beams}; give as many beams as candidates"
            )

    @property
    def certifiable(self) -> bool:
        """Whether nothing but the model shapes the scores, so that bounds from the beams can decide."""
        return self.length_penalty == 0 and self.no_repeat_ngram == 0 and self.min_new_tokens == 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer that the search considered; `log_prob` is log p(y|x) as the decoding defines it."""

    answer: str
    log_prob: float


@dataclass(frozen=True, slots=True)
class AnswerToken:
    """One token of an answer.

    Attributes:
      token: decoded text; the end token comes last.
      log_prob: RAG-Token log p(y_t|x,y_<t); RAG-Sequence log p(y_≤t|x) − log p(y_<t|x).
      posterior: float64 [K]; RAG-Token p(z|x) p(y_t|x,z,y_<t) / Σ_z'; RAG-Sequence p(z|x,y_≤t).
    """

    token: str
    log_prob: float
    posterior: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and what it rests on.

    Attributes:
      answer: decoded text, special tokens skipped, stripped.
      log_prob: log p(y|x), the sum over the answer's tokens and the end token, whatever the length penalty.
      finish_reason: `end`, or `length` where the limit cut the hypothesis.
      candidates: the answer first, ordered by what the search maximises.
      prior: p(z|x), float64 [K]; K = 0 closed book, here and below.
      passage_log_probs: log p(y|x,z), float64 [K]; nan where Fast Decoding or pruning left it unscored.
      posterior: float64 [K]; RAG-Sequence p(z|x,y), 0 where unscored; RAG-Token the mean over the tokens.
      tokens: None unless asked for.
      answer_bound: log upper bound − log lower bound of log p(y|x); 0 where exact.
      pair_scorings: (candidate, passage) pairs that Thorough Decoding scored, at least in part, beyond what
        the beams hold.
      pair_scorings_saved: such pairs that it did not need to score.
    """

    answer: str
    log_prob: float
    finish_reason: Literal["end", "length"]
    candidates: list[Candidate]
    prior: NDArray[np.float64]
    passage_log_probs: NDArray[np.float64]
    posterior: NDArray[np.float64]
    tokens: list[AnswerToken] | None
    answer_bound: float
    pair_scorings: int = 0
    pair_scorings_saved: int = 0


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Stands where a question has no answer; the other questions of the batch are not affected.

    Attributes:
      reason: NOT_FINITE (the model gave, or the scores hold, NaN or infinity) or BAD_FIELD (the question is
        longer than the generator can read).
      message: what was expected, what was found, what to do.
    """

    reason: RejectReason
    message: str


def answer_tokens(
    texts: Sequence[str], log_probs: NDArray[np.float64], posteriors: NDArray[np.float64]
) -> list[AnswerToken]:
    """Rows of `Answer.tokens` from log-probabilities [T] and posteriors [K, T]."""
    return [
        AnswerToken(text, float(log_prob), posterior)
        for text, log_prob, posterior in zip(texts, log_probs, posteriors.T, strict=True)
    ]
