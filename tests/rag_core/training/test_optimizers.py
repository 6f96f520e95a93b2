"""Which weights which optimiser moves, how far, and that both go on from their state."""

import copy

import pytest
import torch
from torch import nn
from transformers import BartForConditionalGeneration, PreTrainedModel, T5Config, T5ForConditionalGeneration

from rag_core.training.optimizers import OptimizerName, Optimizers, hidden_matrices
from tests.rag_core.tiny_generators import bart_config, t5_config, tiny_question_encoder

RATE = 0.01


def names_of_hidden(model: nn.Module) -> set[str]:
    hidden = {id(weight) for weight in hidden_matrices(model)}
    return {name for name, weight in model.named_parameters() if id(weight) in hidden}


@pytest.mark.parametrize(
    "model, outer",
    [
        (
            T5ForConditionalGeneration(t5_config(40)),
            {"shared.weight", "lm_head.weight", "relative_attention_bias.weight"},
        ),
        (
            T5ForConditionalGeneration(T5Config(**t5_config(40).to_dict() | {"tie_word_embeddings": False})),
            {"shared.weight", "lm_head.weight", "relative_attention_bias.weight"},
        ),
        (
            BartForConditionalGeneration(bart_config(40)),
            {"shared.weight", "embed_positions.weight", "lm_head.weight"},
        ),
        (
            tiny_question_encoder(),
            {"word_embeddings.weight", "position_embeddings.weight", "token_type_embeddings.weight"},
        ),
    ],
    ids=["t5", "t5 with a head of its own", "bart", "dpr"],
)
def test_muon_takes_the_matrices_between_embeddings_and_head(model: PreTrainedModel, outer: set[str]) -> None:
    matrices = {name for name, weight in model.named_parameters() if weight.dim() == 2}
    expected = {name for name in matrices if not name.endswith(tuple(outer))}
    assert names_of_hidden(nn.ModuleDict({"generator": model})) == {f"generator.{name}" for name in expected}
    assert len(expected) >= 6


def test_frozen_matrices_are_nobodys() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3).requires_grad_(False))
    assert names_of_hidden(model) == {"0.weight"}
    before = copy.deepcopy(model.state_dict())
    model[0](torch.ones(3)).sum().backward()
    Optimizers(model, "muon", RATE, 0.0).step(RATE)
    moved = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved == {"0.weight", "0.bias"}


def trained(name: OptimizerName, steps: int, resume_after: int | None = None) -> nn.Module:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    inputs, wanted = torch.randint(7, (steps, 5)), torch.randn(steps, 5, 2)
    optimizers = Optimizers(model, name, RATE, 0.1)
    for step in range(steps):
        if step == resume_after:
            state = copy.deepcopy(optimizers.state_dict())
            optimizers = Optimizers(model, name, RATE, 0.1)
            optimizers.load_state_dict(state)
        optimizers.zero_grad()
        ((model(inputs[step]) - wanted[step]) ** 2).sum().backward()
        optimizers.step(RATE / (step + 1))
    return model


def test_muons_step_has_all_directions_of_a_matrix_alike_and_adamws_all_entries() -> None:
    before, after = trained("muon", 0).state_dict(), trained("muon", 1).state_dict()
    change = {
        name: after[name] - before[name] * (1 - RATE * 0.1) for name in after if name.endswith("weight")
    }
    # as long as AdamW's: 0.2 √(longer side) of the rate along each direction, which Newton and Schulz's
    # iteration gives to within a half
    directions = torch.linalg.svdvals(change["3.weight"]) / (RATE * 0.2 * 6**0.5)
    assert len(directions) == 2
    assert ((directions > 0.5) & (directions < 1.5)).all()
    moved = change["0.weight"].abs() / RATE
    assert torch.all((moved < 1e-4) | ((moved - 1).abs() < 1e-4))
    assert (moved > 0.5).any()


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_an_optimiser_goes_on_from_its_state(name: OptimizerName) -> None:
    whole, resumed = trained(name, 6).state_dict(), trained(name, 6, resume_after=3).state_dict()
    for weight in whole:
        assert torch.equal(whole[weight], resumed[weight])


def test_the_state_of_other_optimisers_is_refused() -> None:
    model = nn.Linear(3, 3)
    adamw, muon = Optimizers(model, "adamw", RATE, 0.0), Optimizers(model, "muon", RATE, 0.0)
    for optimizers, other in ((adamw, muon), (muon, adamw)):
        with pytest.raises(ValueError):
            optimizers.load_state_dict(other.state_dict())
