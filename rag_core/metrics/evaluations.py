"""Answers and retrievals scored one by one: add items, merge what others added, read the scores."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import numpy as np

from rag_core.errors import UsageError
from rag_core.metrics.answers import exact_match, exact_match_pattern, token_f1
from rag_core.metrics.bootstrap import Bootstrap, Floats
from rag_core.metrics.patterns import AnswerPatterns
from rag_core.metrics.retrieval import (
    AnswerFinder,
    AnswerRegexes,
    AnswerStrings,
    Reference,
    RetrievedPassage,
    document_recall,
    first_hit_rank,
    r_precision,
    reciprocal_rank,
)
from rag_core.metrics.scores import Score, select_metrics, split_cutoff
from rag_core.metrics.tallies import Bleu1Tally, DistinctTrigramsTally, MeanTally, Tally
from rag_core.metrics.text import rouge_l

ANSWER_METRICS = ("exact_match", "f1", "rouge_l", "bleu_1", "distinct_trigrams")
RETRIEVAL_METRICS = (
    *(f"recall@{k}" for k in (1, 5, 20, 100)),
    "mrr",
    *(f"document_recall@{k}" for k in (1, 5, 20, 100)),
    "r_precision",
)
CUTOFF_FAMILIES = ("recall", "document_recall")  # these take any cut-off: recall@7

_PATTERN_METRICS = ("exact_match", "distinct_trigrams")


class _Evaluation:
    """One tally a metric, and how tallies become scores."""

    def __init__(self, metrics: tuple[str, ...], by_default: bool, bootstrap: Bootstrap | None):
        self.metrics = metrics
        self.bootstrap = bootstrap or Bootstrap()
        self._by_default = by_default
        self._counts = Counter(scored=0, missing_prediction=0, without_gold=0)
        self._patterns = AnswerPatterns()
        self._tallies: dict[str, Tally] = {}

    @property
    def counts(self) -> dict[str, int]:
        """What became of the items.

        `scored`; `missing_prediction` (counted as 0 where something gold is known); `without_gold`
        (left out); and of gold patterns `invalid_pattern` and `pattern_timeout`, which match nothing.
        """
        return {
            **self._counts,
            "invalid_pattern": len(self._patterns.invalid),
            "pattern_timeout": len(self._patterns.timed_out),
        }

    def values(self, metric: str) -> Floats:
        """Per-item values [n] of a metric that is a mean, in the order added: for `compare_means`.

        Raises:
          UsageError: the metric is not computed here, or is no mean over items.
        """
        tally = self._tallies.get(metric)
        if not isinstance(tally, MeanTally):
            means = [name for name, kept in self._tallies.items() if isinstance(kept, MeanTally)]
            raise UsageError(f"No value per item for {metric!r}; there is one for: {', '.join(means)}.")
        return np.array(tally.values, np.float64)

    def merge(self, other: Self) -> None:
        """Appends the items of another evaluation with the same metrics: units can be scored apart."""
        if self.metrics != other.metrics:
            raise UsageError(
                f"Evaluations of different metrics cannot be merged: {self.metrics} and {other.metrics}."
            )
        self._counts.update(other._counts)
        self._patterns.merge(other._patterns)
        for metric, tally in self._tallies.items():
            tally.merge(other._tallies[metric])

    def scores(self, slice_name: str | None = None, whole: Self | None = None) -> list[Score]:
        """The scores of all items added.

        By default, metrics that nothing can be said about are left out.

        Args:
          slice_name: which part of the items these are; None for all.
          whole: the evaluation that these items are a part of: its metrics are told, but for those that
            judge none of these items.

        Raises:
          UsageError: a metric that nothing can be said about was asked for by name.
        """
        if whole is None:
            metrics = self._judged(self._tallies)
        else:
            metrics = [name for name in whole._judged(whole._tallies) if self._tallies[name].n]
        scores = []
        for metric in metrics:
            tally = self._tallies[metric]
            value, low, high = tally.estimate(self.bootstrap)
            scores.append(Score(metric, value, tally.n, low, high, slice_name))
        return scores

    def mean_metrics(self) -> list[str]:
        """The metrics that are means over items and that something can be said about.

        Raises:
          UsageError: nothing can be said about one that was asked for by name.
        """
        return self._judged(name for name, tally in self._tallies.items() if isinstance(tally, MeanTally))

    def _judged(self, metrics: Iterable[str]) -> list[str]:
        judged = []
        for metric in metrics:
            obstacle = self._obstacle(metric)
            if obstacle is None:
                judged.append(metric)
            elif not self._by_default:
                raise UsageError(f"{metric!r} was asked for, but {obstacle}.")
        return judged

    def _obstacle(self, metric: str) -> str | None:
        """Why nothing can be said about a metric, or None."""
        raise NotImplementedError


class AnswerEvaluation(_Evaluation):
    """Scores generated answers.

    Args:
      metrics: some of `ANSWER_METRICS`; None for all that apply.
      regex: gold answers are regular expressions (CuratedTREC): exact match and distinct trigrams only.
      bootstrap: how intervals are drawn.

    Raises:
      UsageError: an unknown metric, or one that gold patterns cannot give.
    """

    def __init__(
        self,
        metrics: Sequence[str] | None = None,
        *,
        regex: bool = False,
        bootstrap: Bootstrap | None = None,
    ):
        names = select_metrics(metrics, ANSWER_METRICS)
        if regex:
            names = _with_patterns(names, by_default=metrics is None)
        super().__init__(names, metrics is None, bootstrap)
        self._judges: dict[str, Callable[[str, Sequence[str]], float]] = {
            "exact_match": self._match_pattern if regex else exact_match,
            "f1": token_f1,
            "rouge_l": rouge_l,
        }
        whole_corpus: dict[str, type[Tally]] = {
            "bleu_1": Bleu1Tally,
            "distinct_trigrams": DistinctTrigramsTally,
        }
        self._tallies = {name: whole_corpus.get(name, MeanTally)() for name in names}

    def add(self, prediction: str | None, answers: Sequence[str] | None) -> dict[str, float]:
        """One question: the generated answer, None where missing, and its gold answers.

        Blank gold answers are none. The trigrams of an answer count even if no gold answer is known.

        Returns:
          What the question scored by itself: its value of each metric that is a mean and judges it.
        """
        values: dict[str, float] = {}
        gold = [answer for answer in answers or () if answer.strip()]
        self._counts["missing_prediction"] += prediction is None
        self._counts["scored" if gold else "without_gold"] += 1
        for name, tally in self._tallies.items():
            if isinstance(tally, DistinctTrigramsTally):
                if prediction is not None:
                    tally.add(prediction)
            elif isinstance(tally, Bleu1Tally):
                if gold:
                    tally.add(prediction or "", gold)
            elif isinstance(tally, MeanTally) and gold:
                values[name] = 0.0 if prediction is None else self._judges[name](prediction, gold)
                tally.add(values[name])
        return values

    def _match_pattern(self, prediction: str, patterns: Sequence[str]) -> float:
        return exact_match_pattern(prediction, patterns, self._patterns)

    def _obstacle(self, metric: str) -> str | None:
        if self._tallies[metric].n:
            return None
        if metric == "distinct_trigrams":
            return "no answer has three tokens"
        return "no question has gold answers"


class RetrievalEvaluation(_Evaluation):
    """Scores retrievals, best passage first.

    recall@k: the share of questions with an answer string in the first k passages' texts (DPR's rule;
    titles do not count). mrr: mean reciprocal rank of the first such passage. document_recall@k and
    r_precision: by gold document. Each is over the questions for which its kind of gold is known.

    Args:
      metrics: some of `RETRIEVAL_METRICS`, with any cut-off k; None for all that apply, which leaves
        out cut-offs beyond the longest retrieval.
      regex: gold answers are regular expressions (CuratedTREC).
      bootstrap: how intervals are drawn.

    Raises:
      UsageError: an unknown metric.
    """

    def __init__(
        self,
        metrics: Sequence[str] | None = None,
        *,
        regex: bool = False,
        bootstrap: Bootstrap | None = None,
    ):
        names = select_metrics(metrics, RETRIEVAL_METRICS, CUTOFF_FAMILIES)
        super().__init__(names, metrics is None, bootstrap)
        self._regex = regex
        self._by_answer = {name: MeanTally() for name in names if split_cutoff(name)[0] in ("recall", "mrr")}
        self._by_document = {name: MeanTally() for name in names if name not in self._by_answer}
        self._tallies = {name: self._by_answer.get(name) or self._by_document[name] for name in names}
        self._longest = 0

    def add(self, passages: Sequence[RetrievedPassage] | None, reference: Reference) -> dict[str, float]:
        """One question: its retrieved passages, best first, None where missing, and what is right.

        Returns:
          What the question scored by itself: its value of each metric that judges it.
        """
        self._counts["missing_prediction"] += passages is None
        passages = passages or ()
        self._longest = max(self._longest, len(passages))
        answers = [answer for answer in reference.answers if answer.strip()]
        evidence = reference.evidence_sets()
        self._counts["scored" if answers or evidence else "without_gold"] += 1
        values: dict[str, float] = {}
        if answers and self._by_answer:
            rank = first_hit_rank((passage.text for passage in passages), self._finder(answers))
            for name in self._by_answer:
                _, k = split_cutoff(name)
                values[name] = reciprocal_rank(rank) if k is None else float(rank is not None and rank <= k)
        if evidence and self._by_document:
            document_ids = [passage.document_id for passage in passages]
            for name in self._by_document:
                _, k = split_cutoff(name)
                values[name] = (
                    r_precision(document_ids, evidence)
                    if k is None
                    else document_recall(document_ids, evidence, k)
                )
        for name, value in values.items():
            (self._by_answer.get(name) or self._by_document[name]).add(value)
        return values

    def merge(self, other: Self) -> None:
        super().merge(other)
        self._longest = max(self._longest, other._longest)

    def _finder(self, answers: Sequence[str]) -> AnswerFinder:
        return AnswerRegexes(answers, self._patterns) if self._regex else AnswerStrings(answers)

    def _obstacle(self, metric: str) -> str | None:
        if not self._tallies[metric].n:
            return f"no question has gold {'answers' if metric in self._by_answer else 'documents'}"
        _, k = split_cutoff(metric)
        if k is not None and k > max(1, self._longest):
            return f"no question has more than {self._longest} retrieved passages"
        return None


def _with_patterns(names: tuple[str, ...], by_default: bool) -> tuple[str, ...]:
    """The metrics that gold patterns can give."""
    impossible = [name for name in names if name not in _PATTERN_METRICS]
    if impossible and not by_default:
        raise UsageError(
            f"Gold answers that are regular expressions give {' and '.join(_PATTERN_METRICS)} only, "
            f"not {', '.join(impossible)}."
        )
    return tuple(name for name in names if name in _PATTERN_METRICS)
