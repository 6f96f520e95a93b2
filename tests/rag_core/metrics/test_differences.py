"""Paired differences, by hand and against numpy that draws the questions one by one."""

import numpy as np
import pytest

from rag_core.errors import UsageError
from rag_core.metrics import (
    CORPUS_METRICS,
    AnswerEvaluation,
    Bootstrap,
    ItemValues,
    LabelEvaluation,
    Reference,
    RetrievalEvaluation,
    RetrievedPassage,
    score_differences,
)


def kept(values, metric="exact_match"):
    """Values of one metric; None for an item that the metric does not judge."""
    items = ItemValues(len(values))
    for number, value in enumerate(values):
        items.put(number, {} if value is None else {metric: value})
    return items


def test_a_difference_by_hand():
    """+1, +1, −1, 0 over four judged questions; the fifth has no gold answer."""
    ours, baseline = kept([1, 1, 0, 1, None]), kept([0, 0, 1, 1, None])
    (score,) = score_differences(ours, baseline, ["exact_match"], Bootstrap())
    assert (score.metric, score.value, score.n, score.slice) == ("exact_match_minus_baseline", 0.25, 4, None)
    (back,) = score_differences(baseline, ours, ["exact_match"], Bootstrap())
    assert back.value == -0.25


def test_two_questions_give_the_binomial_interval():
    """Differences +1 and 0: a resampled mean is 0, 1/2 or 1 with 1/4, 1/2, 1/4, so the interval is [0, 1]."""
    (score,) = score_differences(kept([1, 1]), kept([0, 1]), ["exact_match"], Bootstrap())
    assert (score.value, score.ci_low, score.ci_high) == (0.5, 0.0, 1.0)


def test_equal_systems_have_no_spread():
    (score,) = score_differences(kept([1, 0, 1]), kept([1, 0, 1]), ["exact_match"], Bootstrap())
    assert (score.value, score.ci_low, score.ci_high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("fractions", [False, True], ids=["right or wrong", "fractions"])
def test_the_interval_is_that_of_resampling_the_same_questions(fractions):
    generator = np.random.default_rng(3)
    difficulty = generator.random(400)
    ours = difficulty + generator.normal(0.02, 0.1, size=400)
    baseline = difficulty + generator.normal(0.0, 0.1, size=400)
    if not fractions:
        ours, baseline = (ours > 0.5).astype(float), (baseline > 0.5).astype(float)
    bootstrap = Bootstrap(n_resamples=10_000)
    (score,) = score_differences(kept(ours), kept(baseline), ["exact_match"], bootstrap)

    drawn = np.random.default_rng(11).integers(400, size=(10_000, 400))
    paired = ours[drawn].mean(axis=1) - baseline[drawn].mean(axis=1)
    low, high = np.percentile(paired, [2.5, 97.5])
    tolerance = 0.06 * (high - low)
    assert score.value == pytest.approx(ours.mean() - baseline.mean(), abs=1e-12)
    assert score.ci_low == pytest.approx(low, abs=tolerance)
    assert score.ci_high == pytest.approx(high, abs=tolerance)

    others = np.random.default_rng(12).integers(400, size=(10_000, 400))
    unpaired = np.percentile(ours[drawn].mean(axis=1) - baseline[others].mean(axis=1), [2.5, 97.5])
    assert unpaired[1] - unpaired[0] > 1.5 * (score.ci_high - score.ci_low)


def test_values_pair_by_number_whatever_the_order():
    ours, baseline = ItemValues(3), ItemValues(3)
    for number in (2, 0, 1):
        ours.put(number, {"f1": number / 2})
    for number in (1, 2, 0):
        baseline.put(number, {"f1": number / 2})
    (score,) = score_differences(ours, baseline, ["f1"], Bootstrap())
    assert (score.value, score.ci_low, score.ci_high) == (0.0, 0.0, 0.0)


def test_an_evaluation_gives_each_questions_own_values():
    answers = AnswerEvaluation(["exact_match", "f1", "bleu_1"])
    assert answers.add("hot dog", ["dog"]) == {"exact_match": 0.0, "f1": pytest.approx(2 / 3)}
    assert answers.add(None, ["dog"]) == {"exact_match": 0.0, "f1": 0.0}
    assert answers.add("dog", []) == {}

    retrievals = RetrievalEvaluation(["recall@1", "mrr", "document_recall@2"])
    passages = [RetrievedPassage("a#0", "a", "", "Rome"), RetrievedPassage("b#0", "b", "", "Oslo")]
    assert retrievals.add(passages, Reference(["Oslo"], ["b", "c"])) == {
        "recall@1": 0.0,
        "mrr": 0.5,
        "document_recall@2": 0.5,
    }
    assert retrievals.add(passages, Reference((), ["a"])) == {"document_recall@2": 1.0}
    assert retrievals.add(None, Reference(["Oslo"])) == {"recall@1": 0.0, "mrr": 0.0}

    labels = LabelEvaluation()
    assert labels.add("S", "S") == {"accuracy": 1.0}
    assert labels.add(None, "S") == {"accuracy": 0.0}
    assert labels.add("S", "") == {}
    assert LabelEvaluation(["macro_f1"]).add("S", "S") == {}


def test_every_metric_is_a_mean_over_items_or_said_not_to_be():
    answers, labels, retrievals = AnswerEvaluation(), LabelEvaluation(), RetrievalEvaluation()
    answers.add("a b c", ["a b c"])
    labels.add("S", "S")
    retrievals.add([RetrievedPassage("a#0", "a", "", "x")] * 100, Reference(["x"], ["a"]))
    for evaluation in (answers, labels, retrievals):
        means = evaluation.mean_metrics()
        assert means
        assert {*means} == {score.metric for score in evaluation.scores()} - {*CORPUS_METRICS}


def test_mean_metrics_are_those_that_can_be_given():
    evaluation = RetrievalEvaluation()
    evaluation.add([RetrievedPassage("a#0", "a", "", "x")] * 5, Reference(["x"]))
    assert evaluation.mean_metrics() == ["recall@1", "recall@5", "mrr"]
    asked = RetrievalEvaluation(["recall@20"])
    asked.add([RetrievedPassage("a#0", "a", "", "x")] * 5, Reference(["x"]))
    with pytest.raises(UsageError, match="'recall@20' was asked for, but no question has more than 5"):
        asked.mean_metrics()
    assert LabelEvaluation().mean_metrics() == []
