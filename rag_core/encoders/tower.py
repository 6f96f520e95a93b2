"""A tower: one transformer with its tokenizer and what makes one vector of its outputs."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from rag_core.device_memory import RecordTooLarge
from rag_core.encoders.batching import token_budget_batches
from rag_core.encoders.tokenization import Tokenize

Layer = Callable[[torch.Tensor], torch.Tensor]
"""After pooling: float32 [rows, D] to float32 [rows, D']."""


_TRIED_LENGTHS = (1, 2, 3, 5, 9, 17, 31, 64, 99, 140, 254)


class PooledModel(Protocol):
    """A transformer and its pooling: token ids, int64 [L] a row, to float32 [rows, hidden] on its device.

    No token types are given, that is zeros: DPR trained and encoded with zeros for title and text alike,
    and transformers' RAG example does the same. Other encoders get single sequences, zeros anyway.
    """

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and arithmetic; pooling is in float32."""
        ...

    @property
    def is_padded(self) -> bool:
        """Whether rows are padded to the longest of their batch."""
        ...

    def __call__(self, rows: Sequence[np.ndarray]) -> torch.Tensor:
        """The pooled vectors; called in inference mode."""
        ...


@dataclass(frozen=True, eq=False)
class Tower:
    """Texts in, float32 vectors out.

    Attributes:
      tokenize: texts, or pairs of them, to token ids.
      model: in evaluation mode, on its device.
      layers: applied to the pooled vectors, in turn.
      dimension: D.
      max_tokens: special tokens included.
    """

    tokenize: Tokenize
    model: PooledModel
    layers: Sequence[Layer]
    dimension: int
    max_tokens: int

    def encode(
        self,
        rows: Sequence[np.ndarray],
        *,
        batch_tokens: int,
        on_rows: Callable[[int], object] | None = None,
    ) -> np.ndarray:
        """Vectors of token ids as `tokenize` gives them: float32 [N, D], in the order given.

        Raises:
          RecordTooLarge: a row alone does not fit into the device's memory.
        """
        lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        order, done = [], []
        for batch in token_budget_batches(lengths, batch_tokens):
            order.append(batch)
            done.append(self._encode_batch(rows, batch))
            if on_rows is not None:
                on_rows(len(batch))
        vectors = np.empty((len(rows), self.dimension), dtype=np.float32)
        if done:  # fetched at the end: a GPU computes on while the next batch is laid out
            vectors[np.concatenate(order)] = torch.cat(done).cpu().numpy()
        return vectors

    @functools.cached_property
    def batch_invariant(self) -> bool:
        """Whether a text's vector has the same bits whatever it is batched with, on this device.

        Found by trying it, texts of many lengths together and each alone: it is the matrix library that
        decides. Never claimed where rows are padded.
        """
        if self.model.is_padded:
            return False
        lengths = sorted({min(length, self.max_tokens - 2) for length in _TRIED_LENGTHS})
        rows = self.tokenize(["a " * length for length in lengths for _ in range(2)], None)
        together = self.encode(rows, batch_tokens=sum(map(len, rows)))
        alone = [self.encode([row], batch_tokens=1) for row in rows[::2]]
        return np.array_equal(together[::2], np.concatenate(alone)) and np.array_equal(
            together, self.encode(rows[::-1], batch_tokens=len(rows[-1]))[::-1]
        )

    def _encode_batch(self, rows: Sequence[np.ndarray], batch: np.ndarray) -> torch.Tensor:
        """Vectors of the rows of these numbers, on the device; where its memory does not hold them, by halves."""
        try:
            return self._forward([rows[row] for row in batch])
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise RecordTooLarge(int(batch[0]), error) from error
        # Outside the handler: the exception keeps the failed batch's tensors alive.
        half = len(batch) // 2
        return torch.cat([self._encode_batch(rows, batch[:half]), self._encode_batch(rows, batch[half:])])

    @torch.inference_mode()
    def _forward(self, rows: Sequence[np.ndarray]) -> torch.Tensor:
        vectors = self.model(rows)
        for layer in self.layers:
            vectors = layer(vectors)
        return vectors
