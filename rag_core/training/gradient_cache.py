"""Gradients of a loss over all vectors of a batch, with the memory of a chunk (GradCache, Gao et al. 2021).

An in-batch loss couples every text with every other, so accumulating the losses of small batches trains
something else. But it sees the encoders through their vectors only: these are computed once without a
graph, the loss gives a gradient for each, and chunk by chunk the encoder runs again and passes it on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rag_core.training.random_state import RandomState


@dataclass(frozen=True)
class Side:
    """One encoder and what it encodes.

    Attributes:
      encode: a chunk to its vectors [texts, D], with a graph where gradients are enabled.
      chunks: what is encoded at a time, in order.
    """

    encode: Callable[[Any], Tensor]
    chunks: Sequence[Any]


def backward_by_chunks(sides: Sequence[Side], loss_of: Callable[..., Tensor]) -> Tensor:
    """Adds to the parameters' gradients what `loss_of(*vectors).backward()` over whole sides would add.

    Each chunk's second run draws the same random numbers as its first, so that dropout drops the same. Where
    each side is one chunk there is nothing to save, and it runs once.

    Args:
      sides: usually questions and passages.
      loss_of: the vectors of each side [its texts, D] to the loss, a scalar; [0, 0] of a side without texts.

    Returns:
      The loss, detached.
    """
    if all(len(side.chunks) == 1 for side in sides):
        loss = loss_of(*(side.encode(side.chunks[0]) for side in sides))
        loss.backward()
        return loss.detach()
    states: list[RandomState] = []
    leaves: list[list[Tensor]] = []
    with torch.no_grad():
        for side in sides:
            vectors = []
            for chunk in side.chunks:
                states.append(RandomState.now())
                vectors.append(side.encode(chunk))
            leaves.append([chunk_vectors.requires_grad_() for chunk_vectors in vectors])
    after = RandomState.now()
    loss = loss_of(*(torch.cat(vectors) if vectors else torch.empty(0, 0) for vectors in leaves))
    loss.backward()
    again = iter(states)
    for side, vectors in zip(sides, leaves, strict=True):
        for chunk, chunk_vectors in zip(side.chunks, vectors, strict=True):
            next(again).restore()
            side.encode(chunk).backward(chunk_vectors.grad)
    after.restore()
    return loss.detach()
