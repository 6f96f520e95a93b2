"""The end-to-end loss against the formula in float64, and its gradients against finite differences."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
import torch

from rag_core.answers import RetrievedQuestion
from rag_core.generator import Generator
from rag_core.training import Abstention, RagExample, document_scores, rag_nll
from tests.rag_core.oracles import (
    contexts_of,
    eager_model,
    log_distributions,
    log_prior,
    random_questions,
    token_log_probs,
)
from tests.rag_core.tiny_generators import tiny_bart, tiny_t5

TARGETS = [[7, 9, 11, 2], [5, 2], [30, 31, 32, 33, 34, 2]]
MODEL_TYPES: tuple[Literal["rag_sequence", "rag_token"], ...] = ("rag_sequence", "rag_token")


@pytest.fixture(scope="module", params=[tiny_bart, tiny_t5], ids=["BART", "T5"])
def generator(request: pytest.FixtureRequest) -> Generator:
    return request.param(seed=3)


def examples_of(generator: Generator, questions: Sequence[RetrievedQuestion]) -> list[RagExample]:
    return [
        RagExample(contexts_of(generator, question), target)
        for question, target in zip(questions, TARGETS, strict=True)
    ]


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_loss_is_the_formula(
    generator: Generator, model_type: Literal["rag_sequence", "rag_token"]
) -> None:
    questions = random_questions(1, [4, 4, 4])
    model = eager_model(generator)
    expected = []
    for question, target in zip(questions, TARGETS, strict=True):
        under = np.array(
            [
                token_log_probs(model, generator.prompt, context, target)
                for context in contexts_of(generator, question)
            ]
        )  # [K, T]
        prior = log_prior(question)
        if model_type == "rag_sequence":
            expected.append(-np.logaddexp.reduce(prior + under.sum(axis=1)))
        else:
            expected.append(-np.logaddexp.reduce(prior[:, None] + under, axis=0).sum())
    scores = torch.tensor(np.stack([question.scores for question in questions]))
    loss = rag_nll(model_type, model, generator.prompt, scores, examples_of(generator, questions))
    np.testing.assert_allclose(loss.detach().numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_gradients_equal_finite_differences(
    generator: Generator, model_type: Literal["rag_sequence", "rag_token"]
) -> None:
    """Of the question vectors, which the question encoder gives, and of a weight of the generator."""
    questions = random_questions(2, [3, 3, 3])
    examples = examples_of(generator, questions)
    model = eager_model(generator)
    torch.manual_seed(0)
    vectors = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    passages = torch.randn(3, 3, 5, dtype=torch.float64)
    weight = (
        model.get_decoder().layers[0].final_layer_norm.weight
        if hasattr(model.get_decoder(), "layers")
        else (model.get_decoder().final_layer_norm.weight)
    )

    def loss(asked: torch.Tensor) -> torch.Tensor:
        return rag_nll(model_type, model, generator.prompt, document_scores(asked, passages), examples).sum()

    assert torch.autograd.gradcheck(loss, (vectors,), atol=1e-6)
    model.requires_grad_(False)
    weight.requires_grad_(True)
    loss(vectors.detach()).backward()
    assert weight.grad is not None
    for index in (0, 3):
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight[index] += step
                values.append(loss(vectors.detach()).item())
                weight[index] -= step
        assert weight.grad[index].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-7)


def test_scores_are_inner_products() -> None:
    asked = torch.tensor([[1.0, 2.0]])
    passages = torch.tensor([[[3.0, 4.0], [0.5, -1.0]]]).half()
    assert document_scores(asked, passages).tolist() == [[11.0, -1.5]]
    assert document_scores(asked.bfloat16(), passages).dtype == torch.float32


def test_what_does_not_fit_together_is_refused(generator: Generator) -> None:
    [question] = random_questions(4, [2])
    contexts = contexts_of(generator, question)
    scores = torch.zeros(1, 2)
    for examples, message in (
        ([RagExample(contexts[:1], [5, 2])], "1 examples of 2 contexts"),
        ([RagExample(contexts, [])], "a target without tokens"),
    ):
        with pytest.raises(ValueError, match=message):
            rag_nll("rag_token", generator.model, generator.prompt, scores, examples)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_label_smoothing_is_its_definition(
    generator: Generator, model_type: Literal["rag_sequence", "rag_token"]
) -> None:
    """By enumeration: RAG-Token smooths the mixture's distribution, RAG-Sequence each document's."""
    epsilon = 0.1
    [question] = random_questions(5, [3])
    [target] = TARGETS[:1]
    model = eager_model(generator)
    prior = np.exp(log_prior(question))
    contexts = contexts_of(generator, question)
    probs = np.exp([log_distributions(model, generator.prompt, context, target) for context in contexts])
    places = range(len(target))
    if model_type == "rag_token":
        mixture = np.einsum("k,ktv->tv", prior, probs)
        expected = -sum(
            (1 - epsilon) * np.log(mixture[place, target[place]]) + epsilon * np.log(mixture[place]).mean()
            for place in places
        )
    else:
        smoothed = [
            sum(
                (1 - epsilon) * np.log(of_document[place, target[place]])
                + epsilon * np.log(of_document[place]).mean()
                for place in places
            )
            for of_document in probs
        ]
        expected = -np.log(np.sum(prior * np.exp(smoothed)))
    scores = torch.tensor(question.scores).unsqueeze(0)
    examples = [RagExample(contexts_of(generator, question), target)]
    loss = rag_nll(model_type, model, generator.prompt, scores, examples, label_smoothing=epsilon)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_abstention_is_its_definition(
    generator: Generator, model_type: Literal["rag_sequence", "rag_token"]
) -> None:
    """Documents without an answer are to end at once, and in a mixture to favour no token after the first.

    Where none has one, nothing else is learned.
    """
    weight, end = 0.7, generator.end_token
    holding = [[True, False, False], [False, False, False], [True, True, True]]
    questions = random_questions(6, [3, 3, 3])
    model = eager_model(generator)
    plain = examples_of(generator, questions)

    def penalty(context: Sequence[int], target: Sequence[int]) -> float:
        at_once = -token_log_probs(model, generator.prompt, context, [end])[0]
        if model_type == "rag_sequence":
            return float(at_once)
        later = log_distributions(model, generator.prompt, context, target)[1:]  # [T − 1, V]
        uniform = 1 / later.shape[1]
        return float(at_once + (uniform * (np.log(uniform) - later)).sum(axis=1).mean())

    penalties = [[penalty(context, example.target) for context in example.contexts] for example in plain]
    scores = torch.tensor(np.stack([question.scores for question in questions]))
    marked = [
        RagExample(example.contexts, example.target, marks)
        for example, marks in zip(plain, holding, strict=True)
    ]
    without = rag_nll(model_type, model, generator.prompt, scores, plain).tolist()
    loss = rag_nll(
        model_type, model, generator.prompt, scores, marked, abstention=Abstention(weight, end)
    ).tolist()
    assert loss == pytest.approx(
        [
            without[0] + weight * (penalties[0][1] + penalties[0][2]) / 3,
            weight * sum(penalties[1]) / 3,
            without[2],
        ],
        abs=1e-9,
    )
    with pytest.raises(ValueError, match="expected 3 marks for each of 3 examples"):
        rag_nll(model_type, model, generator.prompt, scores, plain, abstention=Abstention(weight, end))
