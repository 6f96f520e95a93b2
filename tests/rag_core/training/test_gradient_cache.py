"""Gradients by chunks against those of one pass over everything."""

import pytest
import torch
from torch import Tensor, nn

from rag_core.training import Side, backward_by_chunks, in_batch_nll

POSITIVES = torch.tensor([0, 3, 1, 6])


def make_encoder(seed: int, dropout: float) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Dropout(dropout), nn.Linear(10, 5)).double()


def gradients(*encoders: nn.Module) -> list[Tensor]:
    found = []
    for encoder in encoders:
        for parameter in encoder.parameters():
            assert parameter.grad is not None
            found.append(parameter.grad.clone())
            parameter.grad = None
    return found


def loss_of(questions: Tensor, passages: Tensor) -> Tensor:
    return in_batch_nll(questions, passages, POSITIVES).mean()


@pytest.fixture
def texts() -> tuple[Tensor, Tensor]:
    torch.manual_seed(5)
    return torch.randn(4, 6, dtype=torch.float64), torch.randn(8, 6, dtype=torch.float64)


@pytest.mark.parametrize("chunk", [1, 3, 8])
@pytest.mark.parametrize("shared", [False, True], ids=["two towers", "one tower"])
def test_gradients_are_those_of_one_pass(texts: tuple[Tensor, Tensor], chunk: int, shared: bool) -> None:
    questions, passages = texts
    question_encoder = make_encoder(1, 0.0)
    passage_encoder = question_encoder if shared else make_encoder(2, 0.0)
    encoders = [question_encoder] if shared else [question_encoder, passage_encoder]
    expected_loss = loss_of(question_encoder(questions), passage_encoder(passages))
    expected_loss.backward()
    expected = gradients(*encoders)
    sides = [Side(question_encoder, questions.split(chunk)), Side(passage_encoder, passages.split(chunk))]
    loss = backward_by_chunks(sides, loss_of)
    assert loss.item() == pytest.approx(expected_loss.item(), abs=1e-12)
    assert not loss.requires_grad
    for found, wanted in zip(gradients(*encoders), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_dropout_drops_the_same_both_times(texts: tuple[Tensor, Tensor]) -> None:
    questions, passages = texts
    encoder = make_encoder(1, 0.5)
    torch.manual_seed(9)
    vectors = [torch.cat([encoder(chunk) for chunk in side.split(3)]) for side in (questions, passages)]
    loss_of(*vectors).backward()
    expected, after = gradients(encoder), torch.rand(1)
    torch.manual_seed(9)
    backward_by_chunks([Side(encoder, questions.split(3)), Side(encoder, passages.split(3))], loss_of)
    for found, wanted in zip(gradients(encoder), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    assert torch.equal(torch.rand(1), after)  # what follows draws as if there had been one pass


def test_gradients_are_added_to_those_there(texts: tuple[Tensor, Tensor]) -> None:
    questions, passages = texts
    encoder = make_encoder(1, 0.0)
    sides = [Side(encoder, [questions]), Side(encoder, [passages])]
    backward_by_chunks(sides, loss_of)
    once = [parameter.grad.clone() for parameter in encoder.parameters() if parameter.grad is not None]
    backward_by_chunks(sides, loss_of)
    for parameter, gradient in zip(encoder.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient, rtol=0, atol=1e-12)
