"""DPR's objective against its formula written out, and against finite differences."""

import math

import pytest
import torch

from rag_core.training import in_batch_nll, positive_ranks

QUESTIONS = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
PASSAGES = torch.tensor([[1.0, 1.0], [2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
POSITIVES = torch.tensor([0, 2])
# scores: [1, 2, 0] and [2, 0, 2]


def test_the_loss_is_the_formula() -> None:
    first = -math.log(math.exp(1) / (math.exp(1) + math.exp(2) + math.exp(0)))
    second = -math.log(math.exp(2) / (math.exp(2) + math.exp(0) + math.exp(2)))
    assert in_batch_nll(QUESTIONS, PASSAGES, POSITIVES).tolist() == pytest.approx([first, second], abs=1e-12)


def test_excluded_passages_count_neither_way() -> None:
    excluded = torch.tensor([[False, True, False], [False, False, False]])
    first = -math.log(math.exp(1) / (math.exp(1) + math.exp(0)))
    assert in_batch_nll(QUESTIONS, PASSAGES, POSITIVES, excluded)[0].item() == pytest.approx(first, abs=1e-12)
    with pytest.raises(ValueError, match="own positive is among the excluded"):
        in_batch_nll(QUESTIONS, PASSAGES, torch.tensor([1, 2]), excluded)


def test_ranks_count_what_scores_higher_and_ties_before() -> None:
    assert positive_ranks(QUESTIONS, PASSAGES, POSITIVES).tolist() == [1, 1]  # passage 0 ties with passage 2
    excluded = torch.tensor([[False, True, False], [True, False, False]])
    assert positive_ranks(QUESTIONS, PASSAGES, POSITIVES, excluded).tolist() == [0, 0]


def test_the_gradient_equals_finite_differences() -> None:
    torch.manual_seed(0)
    questions = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    passages = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    positives = torch.tensor([4, 0, 1])
    excluded = torch.zeros(3, 5, dtype=torch.bool)
    excluded[0, 2] = True
    assert torch.autograd.gradcheck(
        lambda q, p: in_batch_nll(q, p, positives, excluded), (questions, passages), atol=1e-7
    )


def test_scores_are_float32_of_half_precision_vectors() -> None:
    questions, passages = torch.full((1, 8), 10.0), torch.full((2, 8), 10.0)
    passages[1, 0] = 10.0625  # lost where scores near 800 are bfloat16
    loss = in_batch_nll(questions.bfloat16(), passages.bfloat16(), torch.tensor([0]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log1p(math.exp(0.625)), abs=1e-4)
