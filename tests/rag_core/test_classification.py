"""Classification against enumeration over the label set in float64."""

import numpy as np
import pytest

from rag_core.answers import RetrievedQuestion, Unanswered
from rag_core.classification import LabelDistribution, LabelSet, classify_questions
from rag_core.errors import UsageError
from rag_core.generator import Generator
from tests.rag_core import oracles
from tests.rag_core.tiny_generators import tiny_bart, tiny_t5

SINGLE_TOKENS = ("SUPPORTS=A", "REFUTES=B", "NOT ENOUGH INFO=C")
SEVERAL_TOKENS = ("SUPPORTS=supported by it", "REFUTES= refuted", "NOT ENOUGH INFO")


def check(
    generator: Generator, question: RetrievedQuestion, labels: LabelSet, result: LabelDistribution
) -> None:
    model = oracles.eager_model(generator)
    targets = [generator.tokenizer(text, add_special_tokens=False)["input_ids"] for text in labels.targets]
    under = np.stack(
        [
            oracles.scores_under_documents(generator, model, question, target).sum(axis=1)
            for target in targets
        ],
        axis=1,
    )  # [K, L]
    prior = oracles.log_prior(question) if question.passages else np.zeros(1)
    log_probs = np.logaddexp.reduce(prior[:, None] + under, axis=0)
    probs = np.exp(log_probs) / np.exp(log_probs).sum()
    best = int(log_probs.argmax())
    passages = len(question.passages)
    assert result.label == labels.labels[best]
    np.testing.assert_allclose(result.log_probs, log_probs, atol=1e-9)
    np.testing.assert_allclose(result.probs, probs, atol=1e-9)
    np.testing.assert_allclose(result.prior, np.exp(prior)[:passages], atol=1e-12)
    np.testing.assert_allclose(
        result.posterior, np.exp(prior + under[:, best] - log_probs[best])[:passages], atol=1e-9
    )
    np.testing.assert_allclose(result.passage_label_probs, np.exp(under)[:passages], atol=1e-9)
    assert result.probs.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("specifications", [SINGLE_TOKENS, SEVERAL_TOKENS, ("only",)])
@pytest.mark.parametrize(
    "generator", [tiny_bart(1), tiny_bart(1, prompt=(2,)), tiny_t5(1)], ids=["bart", "2", "t5"]
)
@pytest.mark.parametrize("batch_tokens", [1, 10**6])
def test_equals_enumeration(generator: Generator, specifications: tuple[str, ...], batch_tokens: int) -> None:
    labels = LabelSet.parse(specifications)
    questions = oracles.random_questions(1, [3, 1, 0, 4])
    results = classify_questions(generator, questions, labels, batch_tokens=batch_tokens)
    for question, result in zip(questions, results, strict=True):
        assert isinstance(result, LabelDistribution)
        check(generator, question, labels, result)


def test_the_token_counts_of_the_label_sets_are_as_named() -> None:
    generator = tiny_bart()
    assert [len(t) for t in LabelSet.parse(SINGLE_TOKENS).target_tokens(generator)] == [1, 1, 1]
    assert max(len(t) for t in LabelSet.parse(SEVERAL_TOKENS).target_tokens(generator)) > 2


def test_of_equally_probable_labels_the_first_is_chosen() -> None:
    generator = tiny_bart(2)
    a, b = (generator.tokenizer(text, add_special_tokens=False)["input_ids"] for text in "AB")
    weights = generator.model.get_input_embeddings().weight.data
    weights[b] = weights[a]
    question = oracles.random_questions(2, [2])
    for order in (("first=A", "second=B"), ("first=B", "second=A")):
        (result,) = classify_questions(generator, question, LabelSet.parse(order))
        assert isinstance(result, LabelDistribution)
        assert result.probs[0] == result.probs[1]
        assert result.label == "first"


def test_parsing() -> None:
    labels = LabelSet.parse(["SUPPORTS=is supported", "REFUTES", "ODD=a=b"])
    assert labels.labels == ("SUPPORTS", "REFUTES", "ODD")
    assert labels.targets == ("is supported", "REFUTES", "a=b")


@pytest.mark.parametrize(
    ("specifications", "message"),
    [
        ([], "no label"),
        (["A", "=x"], "empty"),
        (["A", "B="], "empty"),
        (["A", ""], "empty"),
        (["A=x", "B=y", "A=z"], "A is given twice"),
    ],
)
def test_bad_label_sets_are_refused(specifications: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LabelSet.parse(specifications)


@pytest.mark.parametrize(("first", "second"), [("supported", "supported not"), ("not", "not")])
def test_a_target_that_begins_another_is_refused(first: str, second: str) -> None:
    for pair in ((first, second), (second, first)):
        labels = LabelSet.parse([f"ONE={pair[0]}", f"TWO={pair[1]}"])
        with pytest.raises(UsageError, match="begins that of"):
            classify_questions(tiny_bart(), [], labels)


def test_a_score_that_is_not_finite_loses_only_its_question() -> None:
    questions = oracles.random_questions(3, [2, 2])
    broken = RetrievedQuestion(
        questions[0].question, questions[0].passages, np.array([1, np.nan], np.float32)
    )
    results = classify_questions(tiny_bart(3), [broken, questions[1]], LabelSet.parse(SINGLE_TOKENS))
    assert isinstance(results[0], Unanswered)
    assert isinstance(results[1], LabelDistribution)
