"""A slice scores what its items alone would."""

from dataclasses import replace

import numpy as np
import pytest

from rag_core.errors import UsageError
from rag_core.metrics import (
    AnswerEvaluation,
    LabelEvaluation,
    Reference,
    RetrievalEvaluation,
    RetrievedPassage,
    SlicedEvaluation,
    score_answers,
    score_labels,
)


def values(scores):
    return {(score.metric, score.slice): (score.value, score.n) for score in scores}


def test_slices_by_hand():
    evaluation = SlicedEvaluation(lambda: AnswerEvaluation(["exact_match"]))
    for prediction, slices in [
        ("a", ("split=x", "year=1")),
        ("b", ("split=x", "year=2")),
        ("a", ("split=y", "year=2")),
        ("a", (None, "year=1")),
        (None, ("split=y", None)),
    ]:
        evaluation.cell(slices).add(prediction, ["a"])
    whole = evaluation.whole()
    assert values(whole.scores()) == {("exact_match", None): (3 / 5, 5)}
    scores = evaluation.slice_scores(whole)
    assert [score.slice for score in scores] == ["split=x", "split=y", "year=1", "year=2"]
    assert values(scores) == {
        ("exact_match", "split=x"): (1 / 2, 2),
        ("exact_match", "split=y"): (1 / 2, 2),
        ("exact_match", "year=1"): (1.0, 2),
        ("exact_match", "year=2"): (1 / 2, 2),
    }


def test_a_slice_and_the_whole_are_what_scoring_them_apart_gives():
    """Corpus metrics and intervals included, though slices are merged of pieces in another order."""
    generator = np.random.default_rng(5)
    words = ["the red house", "a red bird sings", "bird", "house of the bird", "red"]
    items = [
        (str(generator.choice(words)), [str(generator.choice(words))], *generator.integers(3, size=2))
        for _ in range(120)
    ]
    evaluation = SlicedEvaluation(AnswerEvaluation)
    for prediction, answers, first, second in items:
        evaluation.cell((f"a={first}" if first else None, f"b={second}")).add(prediction, answers)
    whole = evaluation.whole()
    by_numbers = {
        score.metric: score for score in score_answers(*zip(*((p, a) for p, a, *_ in items), strict=True))
    }
    assert len(by_numbers) == 5
    for score in whole.scores():
        expected = by_numbers[score.metric]
        assert (score.value, score.n) == (pytest.approx(expected.value), expected.n)
    found = evaluation.slice_scores(whole)
    for name, way in [("a=1", 2), ("a=2", 2), ("b=0", 3), ("b=1", 3), ("b=2", 3)]:
        alone = [(item[0], item[1]) for item in items if item[way] == int(name[2])]
        expected = [replace(score, slice=name) for score in score_answers(*zip(*alone, strict=True))]
        part = [score for score in found if score.slice == name]
        assert [score.metric for score in part] == [score.metric for score in expected]
        for ours, theirs in zip(part, expected, strict=True):
            numbers = (ours.value, ours.n, ours.ci_low, ours.ci_high)
            assert numbers == pytest.approx((theirs.value, theirs.n, theirs.ci_low, theirs.ci_high))
    assert {score.slice for score in found} == {"a=1", "a=2", "b=0", "b=1", "b=2"}


def test_labels_are_combined_with_the_slice():
    evaluation = SlicedEvaluation(LabelEvaluation)
    for predicted, gold, split in [("S", "S", "x"), ("S", "R", "x"), ("R", "R", "y")]:
        evaluation.cell((f"split={split}",)).add(predicted, gold)
    whole = evaluation.whole()
    assert whole.scores() == score_labels(["S", "S", "R"], ["S", "R", "R"])
    found = values(evaluation.slice_scores(whole))
    assert found["accuracy", "split=x"] == (0.5, 2)
    assert found["label_precision", "split=x,label=S"] == (0.5, 2)
    assert found["label_recall", "split=y,label=R"] == (1.0, 1)
    assert ("label_recall", "split=y,label=S") not in found  # no S there, neither gold nor predicted


def test_the_whole_decides_what_metrics_a_slice_has():
    """A slice without predictions counts 0 at every cut-off; one without gold documents is left out there."""
    evaluation = SlicedEvaluation(lambda: RetrievalEvaluation(["recall@5", "document_recall@1"]))
    passages = [RetrievedPassage("a#0", "a", "", "x")] * 5
    evaluation.cell(("split=found",)).add(passages, Reference(["x"], ["a"]))
    evaluation.cell(("split=missing",)).add(None, Reference(["x"]))
    evaluation.cell(("split=unknown",)).add(passages, Reference())
    whole = evaluation.whole()
    assert values(evaluation.slice_scores(whole)) == {
        ("recall@5", "split=found"): (1.0, 1),
        ("document_recall@1", "split=found"): (1.0, 1),
        ("recall@5", "split=missing"): (0.0, 1),
    }
    with pytest.raises(UsageError, match="no question has more than 0"):
        evaluation.cell(("split=missing",)).scores()
