"""A tower: one transformer with its tokenizer and what makes one vector of its outputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rag_core.encoders.batching import pad_rows, token_budget_batches
from rag_core.encoders.tokenization import tokenize


@dataclass(frozen=True, eq=False)
class Tower:
    """Texts in, float32 vectors out.

    Attributes:
      model: in evaluation mode, on its device.
      pool: the model's output and the attention mask (int64 [rows, tokens]) to float32 [rows, dimension].
      dimension: D.
      max_tokens: special tokens included.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pool: Callable[[Any, torch.Tensor], torch.Tensor]
    dimension: int
    max_tokens: int

    def encode(
        self,
        first: Sequence[str],
        second: Sequence[str] | None,
        *,
        batch_tokens: int,
        on_rows: Callable[[int], object] | None = None,
    ) -> np.ndarray:
        """Vectors of the texts, or of the pairs (first, second): float32 [N, D], in the order given."""
        rows = tokenize(self.tokenizer, first, second, max_tokens=self.max_tokens)
        vectors = np.empty((len(rows), self.dimension), dtype=np.float32)
        lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        for batch in token_budget_batches(lengths, batch_tokens):
            vectors[batch] = self._encode_batch([rows[row] for row in batch]).numpy()
            if on_rows is not None:
                on_rows(len(batch))
        return vectors

    def _encode_batch(self, rows: Sequence[np.ndarray]) -> torch.Tensor:
        """Vectors on the CPU; where the device's memory does not hold the batch, by halves."""
        try:
            return self._forward(rows)
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
        # Outside the handler: the exception keeps the failed batch's tensors alive.
        half = len(rows) // 2
        return torch.cat([self._encode_batch(rows[:half]), self._encode_batch(rows[half:])])

    @torch.inference_mode()
    def _forward(self, rows: Sequence[np.ndarray]) -> torch.Tensor:
        ids, mask = pad_rows(rows, self.tokenizer.pad_token_id or 0)
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        # No token_type_ids, that is zeros: DPR trained and encoded with zeros for title and text alike, and
        # transformers' RAG example does the same. Other encoders are given single sequences, zeros anyway.
        output = self.model(input_ids=ids, attention_mask=mask)
        return self.pool(output, mask).cpu()
