import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_core.errors import UsageError
from rag_core.metrics import (
    ANSWER_METRICS,
    AnswerEvaluation,
    Bootstrap,
    LabelEvaluation,
    Reference,
    RetrievalEvaluation,
    RetrievedPassage,
    score_answers,
    score_labels,
    score_retrievals,
    select_metrics,
)
from rag_core.metrics.evaluations import CUTOFF_FAMILIES, RETRIEVAL_METRICS


def values(scores):
    return {(score.metric, score.slice): score.value for score in scores}


def counted(scores):
    return {score.metric: score.n for score in scores}


def passages(*texts, documents=None):
    documents = documents or [f"d{i}" for i in range(len(texts))]
    return [
        RetrievedPassage(f"{document}#{i}", document, "Paris", text)
        for i, (document, text) in enumerate(zip(documents, texts, strict=True))
    ]


def test_answers_by_hand():
    predictions = ["The Beatles", "hot dog", None, "unknown to all of us"]
    references = [["Beatles"], ["dog", "cat"], ["x"], []]
    scores = score_answers(predictions, references)
    assert [score.metric for score in scores] == list(ANSWER_METRICS)
    found = {score.metric: score for score in scores}
    assert found["exact_match"].value == pytest.approx(1 / 3)  # the last has no gold answer
    assert found["f1"].value == pytest.approx((1 + 2 / 3) / 3)
    assert found["rouge_l"].value == pytest.approx((2 / 3 + 2 / 3) / 3)
    # matches Beatles, dog of 4 tokens; reference length 1 + 1 + 1
    assert found["bleu_1"].value == pytest.approx(2 / 4)
    assert found["distinct_trigrams"].value == 1.0
    assert counted(scores) == {"exact_match": 3, "f1": 3, "rouge_l": 3, "bleu_1": 3, "distinct_trigrams": 1}
    assert all(0 <= score.ci_low <= score.ci_high <= 1 for score in scores)


def test_blank_and_missing_gold_answers_are_none():
    evaluation = AnswerEvaluation(["exact_match"])
    for answers in (["", " "], [], None, ["a b"]):
        evaluation.add("a b", answers)
    assert counted(evaluation.scores()) == {"exact_match": 1}
    assert evaluation.counts == {
        "scored": 1,
        "missing_prediction": 0,
        "without_gold": 3,
        "invalid_pattern": 0,
        "pattern_timeout": 0,
    }


def test_missing_predictions_count_against():
    evaluation = AnswerEvaluation(["exact_match", "bleu_1"])
    evaluation.add("a b c d", ["a b c d"])
    evaluation.add(None, ["a b c d"])
    assert evaluation.counts["missing_prediction"] == 1
    # BLEU-1: 4 of 4 right, 8 in the references
    assert values(evaluation.scores()) == {
        ("exact_match", None): 0.5,
        ("bleu_1", None): pytest.approx(np.exp(-1)),
    }


def test_regex_answers_give_exact_match_and_trigrams_only():
    evaluation = AnswerEvaluation(regex=True)
    evaluation.add("Paris, of course", ["par[ei]s"])
    evaluation.add("Rome", ["("])
    assert values(evaluation.scores()) == {("exact_match", None): 0.5, ("distinct_trigrams", None): 1.0}
    assert evaluation.counts["invalid_pattern"] == 1
    with pytest.raises(UsageError, match="not f1"):
        AnswerEvaluation(["exact_match", "f1"], regex=True)


def test_labels_by_hand():
    gold = ["S", "S", "S", "R", "R", "N", ""]
    predicted = ["S", "S", "R", "R", None, "S", "S"]
    scores = score_labels(predicted, gold)
    found = values(scores)
    assert found["accuracy", None] == pytest.approx(3 / 6)
    assert found["label_precision", "label=S"] == pytest.approx(2 / 3)
    assert found["label_recall", "label=S"] == pytest.approx(2 / 3)
    assert found["label_precision", "label=R"] == pytest.approx(1 / 2)
    assert found["label_recall", "label=R"] == pytest.approx(1 / 2)  # a missing label is not found
    assert found["label_precision", "label=N"] == 0.0  # never predicted
    assert found["label_f1", "label=N"] == 0.0
    assert found["macro_f1", None] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert {(s.metric, s.slice): s.n for s in scores}["label_precision", "label=S"] == 3


def test_label_interval_is_the_bootstrap_of_the_mean():
    generator = np.random.default_rng(0)
    gold = generator.choice(list("abc"), size=2000)
    predicted = np.where(generator.random(2000) < 0.7, gold, "a")
    evaluation = LabelEvaluation(["accuracy"], bootstrap=Bootstrap(n_resamples=8000))
    for prediction, label in zip(predicted.tolist(), gold.tolist(), strict=True):
        evaluation.add(prediction, label)
    (score,) = evaluation.scores("split=dev")
    low, high = Bootstrap(n_resamples=8000).mean_interval((gold == predicted).astype(float))
    assert (score.ci_low, score.ci_high) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))
    assert score.slice == "split=dev"


labels = st.sampled_from(["a", "b", "c"])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(labels, st.none() | labels | st.just("z")), min_size=1, max_size=12))
def test_labels_against_counting(pairs):
    found = values(score_labels([predicted for _, predicted in pairs], [gold for gold, _ in pairs]))
    every = {label for pair in pairs for label in pair if label is not None}
    f1_scores = []
    for label in every:
        hits = sum(gold == predicted == label for gold, predicted in pairs)
        missed = sum(gold == label != predicted for gold, predicted in pairs)
        wrong = sum(predicted == label != gold for gold, predicted in pairs)
        f1_scores.append(2 * hits / (2 * hits + missed + wrong))
        assert found["label_f1", f"label={label}"] == pytest.approx(f1_scores[-1])
        assert found["label_precision", f"label={label}"] == (
            pytest.approx(hits / (hits + wrong)) if hits + wrong else 0.0
        )
        assert found["label_recall", f"label={label}"] == (
            pytest.approx(hits / (hits + missed)) if hits + missed else 0.0
        )
    assert found["macro_f1", None] == pytest.approx(np.mean(f1_scores))
    assert found["accuracy", None] == pytest.approx(np.mean([gold == p for gold, p in pairs]))


def test_merged_label_evaluations_equal_one():
    whole, first, second = LabelEvaluation(), LabelEvaluation(), LabelEvaluation()
    for i, (predicted, gold) in enumerate([("a", "a"), (None, "b"), ("b", "a"), ("b", "")]):
        whole.add(predicted, gold)
        (first if i % 2 else second).add(predicted, gold)
    first.merge(second)
    assert first.scores() == whole.scores()
    assert first.counts == whole.counts == {"scored": 3, "missing_prediction": 1, "without_gold": 1}
    assert LabelEvaluation().scores() == []


def test_retrievals_by_hand():
    retrieved = [
        passages("nothing", "it is Paris", documents=["a", "b"]),
        passages("Rome, the city", "no", documents=["c", "c"]),
        None,
        passages("Oslo"),
    ]
    references = [
        Reference(["paris"], ["a"]),
        Reference(["Rome"], ["c", "d"]),
        Reference(["x"], ["a"]),
        Reference(),
    ]
    metrics = ["recall@1", "recall@2", "mrr", "document_recall@1", "r_precision"]
    found = score_retrievals(retrieved, references, metrics=metrics)
    assert values(found) == {
        ("recall@1", None): pytest.approx(1 / 3),  # the title "Paris" of every passage does not count
        ("recall@2", None): pytest.approx(2 / 3),
        ("mrr", None): pytest.approx((1 / 2 + 1 + 0) / 3),
        ("document_recall@1", None): pytest.approx((1 + 1 / 2 + 0) / 3),
        ("r_precision", None): pytest.approx((1 + 1 / 2 + 0) / 3),
    }
    assert set(counted(found).values()) == {3}


def test_default_cutoffs_stop_at_what_was_retrieved():
    found = score_retrievals([passages(*"abcdefg")], [Reference(["g"])])
    assert values(found) == {("recall@1", None): 0.0, ("recall@5", None): 0.0, ("mrr", None): 1 / 7}
    with pytest.raises(UsageError, match="'recall@20' was asked for, but no question has more than 7"):
        score_retrievals([passages(*"abcdefg")], [Reference(["g"])], metrics=["recall@20"])


def test_retrieval_by_pattern():
    evaluation = RetrievalEvaluation(["recall@1"], regex=True)
    evaluation.add(passages("about 2,500 feet"), Reference([r"\b2,?[45]00\b"]))
    evaluation.add(passages("about 2,500 feet"), Reference(["["]))
    assert values(evaluation.scores()) == {("recall@1", None): 0.5}
    assert evaluation.counts["invalid_pattern"] == 1


def test_nothing_to_judge():
    assert score_answers(["a"], [[]]) == []
    with pytest.raises(UsageError, match="'f1' was asked for, but no question has gold answers"):
        score_answers(["a"], [[]], metrics=["f1"])
    with pytest.raises(UsageError, match="no answer has three tokens"):
        score_answers(["a b"], [["a"]], metrics=["distinct_trigrams"])
    with pytest.raises(UsageError, match="no question has gold documents"):
        score_retrievals([passages("a")], [Reference(["a"])], metrics=["r_precision"])


def test_unequal_lengths_are_refused():
    with pytest.raises(UsageError, match="found 1 and 2"):
        score_answers(["a"], [["a"], ["b"]])


def test_metric_names():
    assert select_metrics(None, ANSWER_METRICS) == ANSWER_METRICS
    assert select_metrics(["f1", "exact_match", "f1"], ANSWER_METRICS) == ("f1", "exact_match")
    assert select_metrics(["recall@7"], RETRIEVAL_METRICS, CUTOFF_FAMILIES) == ("recall@7",)
    with pytest.raises(
        UsageError, match=r"--metrics exact_mach: unknown metric; did you mean 'exact_match'\?.*rouge_l"
    ):
        score_answers(["a"], [["a"]], metrics=["exact_mach"])
    for name in ("recall@0", "recall@", "recall", "mrr@5", "recall@1.5", "recall@1 "):
        with pytest.raises(UsageError, match="unknown metric"):
            RetrievalEvaluation([name])


questions = st.lists(
    st.tuples(
        st.none() | st.sampled_from(["a b c", "a b", "c d e f", "the", ""]),
        st.lists(st.sampled_from(["a b", "c d e", "the", " "]), max_size=2),
    ),
    min_size=1,
    max_size=10,
)


@settings(deadline=None, max_examples=40)
@given(questions, st.integers(0, 10))
def test_merged_evaluations_equal_one(items, cut):
    whole, first, second = (AnswerEvaluation(bootstrap=Bootstrap(n_resamples=20)) for _ in range(3))
    for i, (prediction, answers) in enumerate(items):
        whole.add(prediction, answers)
        (first if i < cut else second).add(prediction, answers)
    first.merge(pickle.loads(pickle.dumps(second)))  # from another worker
    assert first.scores() == whole.scores()
    assert first.counts == whole.counts


def test_merge_keeps_the_longest_retrieval_and_refuses_other_metrics():
    first, second = RetrievalEvaluation(), RetrievalEvaluation()
    first.add(passages("a"), Reference(["a"]))
    second.add(passages(*"abcde"), Reference(["a"]))
    first.merge(second)
    assert "recall@5" in counted(first.scores())
    with pytest.raises(UsageError, match="cannot be merged"):
        first.merge(RetrievalEvaluation(["mrr"]))


def test_values_per_item_feed_the_paired_test():
    ours, peer = AnswerEvaluation(), AnswerEvaluation()
    for i in range(60):
        ours.add("right", ["right"])
        peer.add("right" if i % 3 else None, ["right"])
    result = ours.bootstrap.compare_means(ours.values("exact_match"), peer.values("exact_match"))
    assert result.difference == pytest.approx(1 / 3)
    assert result.p_value < 0.01
    with pytest.raises(UsageError, match="one for: exact_match, f1, rouge_l"):
        ours.values("bleu_1")
