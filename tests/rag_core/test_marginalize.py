"""The equations, against sums of probabilities over enumerated sequences, and against transformers' losses."""

import itertools

import numpy as np
import pytest
import torch
from transformers import RagConfig, RagSequenceForGeneration, RagTokenForGeneration

from rag_core import marginalize
from tests.rag_core import oracles
from tests.rag_core.tiny_generators import tiny_bart, tiny_question_encoder


def random_model(documents: int, vocabulary: int, length: int) -> dict[tuple[int, ...], torch.Tensor]:
    """p(next token | z, prefix) of an arbitrary autoregressive model: prefix -> float64 [K, V]."""
    draw = torch.Generator().manual_seed(0)
    prefixes = itertools.chain.from_iterable(
        itertools.product(range(vocabulary), repeat=t) for t in range(length)
    )
    return {
        prefix: torch.randn(documents, vocabulary, generator=draw, dtype=torch.float64).mul(2).log_softmax(-1)
        for prefix in prefixes
    }


def test_document_log_prior_is_a_softmax_over_k_in_float64() -> None:
    scores = torch.tensor([[80.1, 79.9, 75.0]], dtype=torch.float32)
    prior = marginalize.document_log_prior(scores).exp()
    expected = np.exp(scores.double().numpy() - 80.0)
    np.testing.assert_allclose(prior, expected / expected.sum(), rtol=1e-12)
    assert prior.dtype == torch.float64
    absent = marginalize.document_log_prior(torch.tensor([[1.0, 2.0, -torch.inf]])).exp()
    np.testing.assert_allclose(absent, [[1 / (1 + np.e), np.e / (1 + np.e), 0.0]], rtol=1e-12)


def test_likelihoods_are_the_enumerated_mixtures_and_sum_to_one() -> None:
    documents, vocabulary, length = 3, 4, 3
    model = random_model(documents, vocabulary, length)
    scores = torch.tensor([3.0, 2.0, 0.5])
    log_prior = marginalize.document_log_prior(scores)
    prior = torch.tensor([np.exp(3.0), np.exp(2.0), np.exp(0.5)])
    prior /= prior.sum()
    sequence_total = token_total = 0.0
    for target in itertools.product(range(vocabulary), repeat=length):
        under = torch.stack([model[target[:t]][:, target[t]] for t in range(length)], dim=-1)  # [K, T]
        by_hand_sequence = float((prior * under.exp().prod(dim=-1)).sum())
        by_hand_token = float((prior[:, None] * under.exp()).sum(dim=0).prod())
        sequence = marginalize.rag_sequence_log_likelihood(log_prior, under.sum(-1)).exp()
        token = marginalize.rag_token_log_marginals(log_prior, under).sum(-1).exp()
        assert float(sequence) == pytest.approx(by_hand_sequence, rel=1e-12)
        assert float(token) == pytest.approx(by_hand_token, rel=1e-12)
        sequence_total += float(sequence)
        token_total += float(token)
    assert sequence_total == pytest.approx(1.0, abs=1e-12)
    assert token_total == pytest.approx(1.0, abs=1e-12)


def test_posteriors_are_bayes_rule() -> None:
    under = random_model(3, 5, 1)[()][:, :4]  # any [K, T]
    log_prior = marginalize.document_log_prior(torch.tensor([1.0, 0.0, -1.0]))
    joint = (log_prior[:, None] + under).exp()
    np.testing.assert_allclose(
        marginalize.rag_token_posteriors(log_prior, under), joint / joint.sum(0), rtol=1e-12
    )
    whole = log_prior.exp() * under.exp().prod(-1)
    np.testing.assert_allclose(
        marginalize.document_posterior(log_prior, under.sum(-1)), whole / whole.sum(), rtol=1e-12
    )
    posteriors, increments = marginalize.rag_sequence_prefix_posteriors(log_prior, under)
    for t in range(4):
        prefix = log_prior.exp() * under[:, : t + 1].exp().prod(-1)
        np.testing.assert_allclose(posteriors[:, t], prefix / prefix.sum(), rtol=1e-12)
        assert float(increments[: t + 1].sum()) == pytest.approx(float(prefix.sum().log()), rel=1e-12)


def test_a_document_left_out_has_no_posterior() -> None:
    log_prior = marginalize.document_log_prior(torch.zeros(2))
    posterior = marginalize.document_posterior(log_prior, torch.tensor([-3.0, -torch.inf]))
    np.testing.assert_array_equal(posterior, [1.0, 0.0])


def test_for_one_token_both_models_are_the_classification() -> None:
    under = random_model(4, 6, 1)[()]  # [K, L]
    log_prior = marginalize.document_log_prior(torch.tensor([2.0, 1.0, 0.0, 0.0]))
    labels = marginalize.label_log_likelihoods(log_prior, under)
    for label in range(6):
        sequence = marginalize.rag_sequence_log_likelihood(log_prior, under[:, label])
        token = marginalize.rag_token_log_marginals(log_prior, under[:, label : label + 1])
        assert float(labels[label]) == pytest.approx(float(sequence), rel=1e-12)
        assert float(labels[label]) == pytest.approx(float(token), rel=1e-12)


def test_nll_ignores_padding_and_reaches_the_scores() -> None:
    draw = torch.Generator().manual_seed(1)
    under = -torch.rand(2, 3, 4, generator=draw)
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    scores = torch.randn(2, 3, generator=draw, requires_grad=True)
    for nll in (marginalize.rag_sequence_nll, marginalize.rag_token_nll):
        losses = nll(scores, under, mask)
        torch.testing.assert_close(losses[:1], nll(scores[:1], under[:1, :, :2], mask[:1, :2]))
        changed = under.masked_fill(~mask[:, None], -9.0)
        torch.testing.assert_close(losses, nll(scores, changed, mask))
        (gradient,) = torch.autograd.grad(losses.sum(), scores)
        assert (gradient.abs() > 1e-4).all()


def test_the_gradient_of_the_loss_is_prior_minus_posterior() -> None:
    """∂(−log p(y|x)) / ∂ score_z = p(z|x) − p(z|x,y): the signal that trains the question encoder."""
    scores = torch.tensor([[1.0, 0.5, -0.2]], dtype=torch.float64, requires_grad=True)
    under = torch.tensor([[[-1.0, -2.0], [-0.5, -0.1], [-3.0, -1.0]]], dtype=torch.float64)
    loss = marginalize.rag_sequence_nll(scores, under, torch.ones(1, 2, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(loss.sum(), scores)
    log_prior = marginalize.document_log_prior(scores)
    expected = log_prior.exp() - marginalize.document_posterior(log_prior, under.sum(-1))
    torch.testing.assert_close(gradient, expected.detach())


def test_token_log_probs_is_the_log_softmax_of_the_target() -> None:
    logits = torch.randn(3, 2, 11, generator=torch.Generator().manual_seed(2)) * 10
    targets = torch.tensor([[0, 10], [3, 3], [7, 1]])
    expected = logits.double().log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    torch.testing.assert_close(marginalize.token_log_probs(logits, targets), expected, atol=1e-5, rtol=0)
    half = marginalize.token_log_probs(logits.bfloat16(), targets)
    rounded = logits.bfloat16().double().log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    torch.testing.assert_close(half, rounded, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["rag_sequence", "rag_token"])
def test_nll_equals_the_loss_of_transformers(kind: str) -> None:
    """Labels `[start, y, end]` with a prompt of one token, where its loss is right: at least two scored tokens."""
    generator = tiny_bart(9, prompt=(2,))
    (question,) = oracles.random_questions(9, [3])
    model = oracles.eager_model(generator)
    question_encoder = tiny_question_encoder()
    config = RagConfig.from_question_encoder_generator_configs(
        question_encoder.config, model.config, n_docs=3
    )
    rag_class = RagSequenceForGeneration if kind == "rag_sequence" else RagTokenForGeneration
    rag = rag_class(config=config, question_encoder=question_encoder, generator=model).eval()
    contexts = oracles.contexts_of(generator, question)
    longest = max(map(len, contexts))
    targets = [(40, 50, 60, 2), (70, 2)]
    for target in targets:
        with torch.no_grad():
            theirs = rag(
                context_input_ids=torch.tensor([[*c, *[1] * (longest - len(c))] for c in contexts]),
                context_attention_mask=torch.tensor(
                    [[1] * len(c) + [0] * (longest - len(c)) for c in contexts]
                ),
                doc_scores=torch.tensor(question.scores, dtype=torch.float64)[None],
                labels=torch.tensor([[2, *target]]),
                n_docs=3,
            ).loss
        under = torch.from_numpy(oracles.scores_under_documents(generator, model, question, target))[None]
        nll = marginalize.rag_sequence_nll if kind == "rag_sequence" else marginalize.rag_token_nll
        ours = nll(torch.tensor(question.scores)[None], under, torch.ones(1, len(target), dtype=torch.bool))
        torch.testing.assert_close(ours, theirs.view(1), atol=1e-9, rtol=0)
