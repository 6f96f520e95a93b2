"""Did retrieval find what it should: by answer string in the passage, and by gold document."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rag_core.metrics.patterns import AnswerPatterns
from rag_core.metrics.tokens import joined_tokens


@dataclass(frozen=True, slots=True)
class RetrievedPassage:
    """One retrieved passage; its place in the sequence is its rank."""

    passage_id: str
    document_id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Reference:
    """What is known to be right about one question.

    Attributes:
      answers: gold answers (or patterns); empty where unknown.
      gold_document_ids: documents that hold the evidence; empty where unknown.
      other_evidence: further sets of documents, each evidence on its own, as KILT's several outputs
        of one question.
    """

    answers: Sequence[str] = ()
    gold_document_ids: Sequence[str] = ()
    other_evidence: Sequence[Sequence[str]] = ()

    def evidence_sets(self) -> list[frozenset[str]]:
        """The non-empty sets of gold documents."""
        return [frozenset(ids) for ids in (self.gold_document_ids, *self.other_evidence) if ids]


class AnswerFinder(Protocol):
    """Says whether a passage holds an answer."""

    def found_in(self, text: str) -> bool:
        """Whether any of the answers occurs in `text`."""
        ...


class AnswerStrings:
    """DPR's rule: the tokens of an answer follow one another among the tokens of the passage.

    So an answer inside a word does not count (`art` in `party`), case does not matter, accents do. An
    answer without a token is never found; under DPR's own code it would be found in every passage.
    """

    def __init__(self, answers: Iterable[str]):
        # tokens hold no spaces, so between spaces a substring is a run of whole tokens
        self._needles = [f" {tokens} " for tokens in map(joined_tokens, answers) if tokens]

    def found_in(self, text: str) -> bool:
        return self.found_in_folded(self.fold(text))

    @staticmethod
    def fold(text: str) -> str:
        """A passage as it is searched: to be made once where many questions search it."""
        return f" {joined_tokens(text)} "

    def found_in_folded(self, folded: str) -> bool:
        """As `found_in`, of a passage that was folded before."""
        return any(needle in folded for needle in self._needles)


class AnswerRegexes:
    """DPR's rule for CuratedTREC: a gold pattern matches anywhere in the passage."""

    def __init__(self, patterns: Iterable[str], matcher: AnswerPatterns):
        self._patterns = tuple(patterns)
        self._matcher = matcher

    def found_in(self, text: str) -> bool:
        return any(self._matcher.search(pattern, text) for pattern in self._patterns)


def has_answer(text: str, answers: Iterable[str]) -> bool:
    """Whether a passage's text holds one of the answers, by DPR's rule (see `AnswerStrings`)."""
    return AnswerStrings(answers).found_in(text)


def first_hit_rank(texts: Iterable[str], answers: AnswerFinder) -> int | None:
    """The rank, from 1, of the first passage with an answer; None where there is none.

    recall@k is the share of questions for which it is at most k.
    """
    return next((rank for rank, text in enumerate(texts, start=1) if answers.found_in(text)), None)


def reciprocal_rank(rank: int | None) -> float:
    """1 / rank, 0 without a rank."""
    return 1.0 / rank if rank is not None else 0.0


def document_recall(document_ids: Sequence[str], evidence_sets: Iterable[frozenset[str]], k: int) -> float:
    """The share of gold documents among those of the first k passages; the best evidence set counts.

    Args:
      document_ids: of the retrieved passages, best first; several passages may be of one document.
      evidence_sets: non-empty sets of gold documents.
      k: how many passages (not documents) count.
    """
    found = set(document_ids[:k])
    return max((len(found & gold) / len(gold) for gold in evidence_sets), default=0.0)


def r_precision(document_ids: Sequence[str], evidence_sets: Iterable[frozenset[str]]) -> float:
    """KILT's R-precision: the share of gold documents among the first R, R being how many are gold.

    A document retrieved through several passages counts once, at its best rank. With several
    evidence sets the best one counts.
    """
    ranked = list(dict.fromkeys(document_ids))
    return max(
        (len(gold.intersection(ranked[: len(gold)])) / len(gold) for gold in evidence_sets), default=0.0
    )
