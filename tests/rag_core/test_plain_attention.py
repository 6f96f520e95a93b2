"""Attention with a trained position bias, against `transformers`' own formula."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rag_core import shared_attention
from rag_core.generator import Generator
from rag_core.plain_attention import plain_attention
from tests.rag_core.tiny_generators import tiny_bart, tiny_t5

CONTEXTS = torch.tensor([[5, 9, 12, 7, 1, 0, 0], [8, 3, 3, 20, 31, 6, 1]])
TARGETS = torch.tensor([[4, 11, 1], [17, 1, -100]])


def gradients(generator: Generator, attention: str) -> dict[str, Tensor]:
    model = generator.model
    model.set_attn_implementation(attention)
    model.zero_grad()
    loss = model(input_ids=CONTEXTS, attention_mask=(CONTEXTS != 0).long(), labels=TARGETS).loss
    loss.backward()
    return {"loss": loss.detach()} | {
        name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None
    }


def test_the_loss_and_every_gradient_equal_those_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: Tensor, **options: float) -> Tensor:
        calls.append(arguments[0].shape)
        return plain_attention(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(shared_attention, "plain_attention", counted)
    generator = tiny_t5()
    ours = gradients(generator, shared_attention.SHARED_ATTENTION)
    assert len(calls) == 4  # self-attention in two layers of the encoder and two of the decoder
    expected = gradients(generator, "eager")
    assert ours.keys() == expected.keys()
    biases = [name for name in ours if "relative_attention_bias" in name]
    assert len(biases) == 2
    assert all(expected[name].abs().max() > 1e-4 for name in biases)
    for name, gradient in expected.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-10, atol=1e-12, msg=name)


def test_bfloat16_is_computed_plainly_without_a_bias_too(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = []

    def noted(
        query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *rest: Any, **options: Any
    ) -> Tensor:
        masks.append((query.shape[2], key.shape[2], mask is not None))
        return plain_attention(query, key, value, mask, *rest, **options)

    monkeypatch.setattr(shared_attention, "plain_attention", noted)
    generator = tiny_bart()
    generator.model.float()
    with torch.autocast("cpu", torch.bfloat16):
        ours = gradients(generator, shared_attention.SHARED_ATTENTION)
        assert len(masks) == 6  # in two layers each: the encoder's, the decoder's own and its cross-attention
        assert all(masked for _, _, masked in masks)
        expected = gradients(generator, "eager")
    assert len(masks) == 6
    torch.testing.assert_close(ours["loss"], expected["loss"], rtol=1e-2, atol=0)
    flat, wanted = (torch.cat([of[name].flatten() for name in expected]) for of in (ours, expected))
    assert (flat - wanted).norm() < 0.05 * wanted.norm()


def test_what_is_not_trained_is_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_attention, "plain_attention", None)
    with torch.no_grad():
        tiny_t5().model(input_ids=CONTEXTS, labels=TARGETS)


def test_scaling_mask_and_bias_by_hand() -> None:
    query, key = torch.tensor([[[[2.0]]]]), torch.tensor([[[[1.0], [3.0], [5.0]]]])
    value = torch.tensor([[[[10.0], [20.0], [40.0]]]])
    bias = torch.tensor([[[[4.0, 0.0, 9.0]]]])
    mask = torch.tensor([[[[True, True, False]]]])
    # scores 0.5 · 2 · (1, 3) + (4, 0) = (5, 3): weights 1 / (1 + e⁻²) and the rest
    first = 1 / (1 + torch.tensor(-2.0).exp())
    found = plain_attention(query, key, value, mask, bias, scaling=0.5)
    torch.testing.assert_close(found, (10 * first + 20 * (1 - first)).view(1, 1, 1, 1))


def test_dropout_leaves_weights_out_and_keeps_their_mean() -> None:
    torch.manual_seed(0)
    query, key, value = torch.zeros(1, 1, 400, 2), torch.zeros(1, 1, 400, 2), torch.ones(1, 1, 400, 2)
    bias = torch.zeros(1, 1, 400, 400)
    found = plain_attention(query, key, value, None, bias, scaling=1.0, dropout=0.5)
    assert found.std() > 0.01
    assert found.mean().item() == pytest.approx(1.0, abs=0.02)


def test_autocast_keeps_the_precision_of_the_matrix_products() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 5, 8).unbind()
    bias = torch.randn(1, 4, 5, 5)
    expected = plain_attention(query, key, value, None, bias, scaling=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        found = plain_attention(query.bfloat16(), key.bfloat16(), value.bfloat16(), None, bias, scaling=1.0)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)
