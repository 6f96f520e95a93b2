"""Positions of decoder rows that began at different times.

`transformers` counts a decoder's positions from the length of its cache, one count for all rows. Models
with relative positions (T5) need no more than that: padding on the left moves queries and keys alike.
Models with learned positions (BART and its kin) are told here, by standing in for their embedding's count.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel


class RowPositions:
    """The positions of one model's decoder."""

    def __init__(self, model: PreTrainedModel):
        """Finds what the decoder knows its positions by."""
        decoder = model.get_decoder()
        self._embedding = getattr(decoder, "embed_positions", None)
        self._relative = any(
            getattr(module, "has_relative_attention_bias", False) for module in decoder.modules()
        )

    @property
    def settable(self) -> bool:
        """Whether rows of this model can have positions of their own."""
        return self.learned or (self._embedding is None and self._relative)

    @property
    def learned(self) -> bool:
        """Whether the decoder looks its positions up in an embedding, so that any token can have any."""
        return isinstance(self._embedding, torch.nn.Embedding) and hasattr(self._embedding, "offset")

    @contextmanager
    def at(self, positions: Tensor | None) -> Iterator[None]:
        """In this context the decoder reads its tokens at these positions.

        Args:
          positions: int64 [rows, tokens]; None for the model's own count.
        """
        embedding = self._embedding
        if positions is None or embedding is None:
            yield
            return

        def look_up(*args: Any, **kwargs: Any) -> Tensor:
            return torch.nn.functional.embedding(positions + embedding.offset, embedding.weight)

        embedding.forward = look_up  # of this module alone; the class keeps its own
        try:
            yield
        finally:
            del embedding.forward
