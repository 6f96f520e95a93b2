import numpy as np
import torch

from rag_core.padding import pad_rows


def test_rows_are_padded_on_the_right() -> None:
    ids, mask = pad_rows([np.array([5, 6]), np.array([7]), np.array([], dtype=np.int64)], pad_id=9)
    assert torch.equal(ids, torch.tensor([[5, 6], [7, 9], [9, 9]]))
    assert torch.equal(mask, torch.tensor([[1, 1], [1, 0], [0, 0]]))
