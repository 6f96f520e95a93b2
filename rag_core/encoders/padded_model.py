"""Any transformer of the library, its batches padded to their longest row."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from rag_core.encoders.pooling import Pooling
from rag_core.padding import pad_rows


class PaddedModel:
    """What `PackedBert` is for BERT, for every other architecture; see `tower.PooledModel`."""

    def __init__(self, model: PreTrainedModel, pad_id: int, pooling: Pooling):
        self._model = model
        self._pad_id = pad_id
        self._pooling = pooling

    @property
    def is_padded(self) -> bool:
        """True: what a text is padded to depends on its batch, and may change the order of sums."""
        return True

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and arithmetic."""
        return self._model.dtype

    def __call__(self, rows: Sequence[np.ndarray]) -> torch.Tensor:
        """Pooled vectors, float32 [rows, hidden] on the device, of token ids."""
        ids, mask = (tensor.to(self._model.device) for tensor in pad_rows(rows, self._pad_id))
        states = self._model(input_ids=ids, attention_mask=mask)["last_hidden_state"].float()
        if self._pooling is Pooling.FIRST_TOKEN:
            return states[:, 0]
        weights = mask.unsqueeze(-1).float()
        return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
