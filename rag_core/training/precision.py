"""Mixed precision: forward passes in bfloat16, everything that is kept or compared in float32."""

import contextlib
from typing import Literal

import torch
from transformers import PreTrainedModel

Precision = Literal["float32", "bfloat16"]


def forward_precision(
    precision: Precision, device: torch.device
) -> contextlib.AbstractContextManager[object]:
    """What to run a model's forward pass in, its weights being float32.

    Take its outputs out and make them float32 before they are scored: inside, matrix products of float32
    tensors are computed in bfloat16 too, and bfloat16 scores shift p(z|x).
    """
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def choose_attention(model: PreTrainedModel, precision: Precision) -> None:
    """Has a model that is trained in bfloat16 on a CPU compute attention by plain matrix products.

    The backward pass of torch's fused attention for a CPU takes several times as long in bfloat16. In float32,
    and on a GPU, the fused one is faster.
    """
    if precision == "bfloat16" and model.device.type == "cpu":
        model.set_attn_implementation("eager")
