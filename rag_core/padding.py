"""Token ids of different lengths as one batch."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def pad_rows(rows: Sequence[Sequence[int] | np.ndarray], pad_id: int) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask (int64, [rows, longest]), padded on the right."""
    longest = max(1, *(len(row) for row in rows))
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)
