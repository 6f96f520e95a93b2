"""The optimisers of a training run: AdamW for all weights, or Muon for the matrices of hidden layers.

Muon orthogonalises the momentum of a matrix before it steps (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/),
so that all directions of a layer learn alike, not only those in which the gradient is large. Embeddings, output
heads, biases and normalisations are AdamW's.
"""

from collections.abc import Iterator
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.nn import Parameter
from transformers import PreTrainedModel

OptimizerName = Literal["adamw", "muon"]


class Optimizers:
    """One optimiser or two, stepped as one."""

    def __init__(self, module: nn.Module, name: OptimizerName, learning_rate: float, weight_decay: float):
        """Divides the parameters that require gradients among the optimisers.

        Args:
          learning_rate: of all; Muon's steps are scaled to be as long as AdamW's (Liu et al. 2025, section 2.2),
            so that both take the same rates.
          weight_decay: of matrices; biases and normalisations have none.
        """
        hidden = {id(weight): weight for weight in hidden_matrices(module)} if name == "muon" else {}
        others = [
            parameter
            for parameter in module.parameters()
            if parameter.requires_grad and id(parameter) not in hidden
        ]
        matrices: dict[str, Any] = {"params": [p for p in others if p.dim() > 1]}
        vectors = {"params": [p for p in others if p.dim() <= 1], "weight_decay": 0.0}
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW([matrices, vectors], lr=learning_rate, eps=1e-8, weight_decay=weight_decay)
        ]
        if hidden:
            self._optimizers.append(
                torch.optim.Muon(
                    list(hidden.values()),
                    lr=learning_rate,
                    weight_decay=weight_decay,
                    adjust_lr_fn="match_rms_adamw",
                )
            )

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad()

    def step(self, learning_rate: float) -> None:
        """Moves the weights."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """What the next steps depend on besides weights and gradients."""
        return [optimizer.state_dict() for optimizer in self._optimizers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Goes on from what `state_dict` gave.

        Raises:
          ValueError: it is of other optimisers, or of other parameters.
        """
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def hidden_matrices(module: nn.Module) -> Iterator[Parameter]:
    """Weights of linear layers that require gradients, but for those of embeddings and output heads."""
    outer = [part.weight for part in module.modules() if isinstance(part, nn.Embedding)]
    models = [part for part in module.modules() if isinstance(part, PreTrainedModel)]
    outer += [head.weight for head in (model.get_output_embeddings() for model in models) if head is not None]
    others = {id(weight) for weight in outer}
    for part in module.modules():
        if isinstance(part, nn.Linear) and part.weight.requires_grad and id(part.weight) not in others:
            yield cast(Parameter, part.weight)
