"""Attention by plain matrix products, for training on a CPU where the library's fused attention is slow.

It takes no gradient of a position bias there: it falls back to a formula of many passes over the scores in
float32, which takes most of a training step's time. And in bfloat16 its backward pass takes longer than all the
rest of a step. This is the formula in as few passes, in the precision of the matrix products.
"""

import torch
from torch import Tensor
from torch.nn.functional import dropout as drop_out


def is_faster(query: Tensor, position_bias: Tensor | None) -> bool:
    """Whether these are such a case."""
    biased = position_bias is not None and position_bias.requires_grad
    return query.device.type == "cpu" and (biased or (query.requires_grad and query.dtype == torch.bfloat16))


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    position_bias: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(s Q Kᵀ + bias + mask) V, with gradients to the bias too (Raffel et al. 2020, section 2.1).

    Args:
      query: [B, heads, positions, d]; its dtype is that of all that is computed.
      key, value: [B, heads, key positions, d].
      attention_mask: boolean, true where attention may go, broadcastable to the scores; None: everywhere.
      position_bias: [1 or B, heads, positions, key positions]; None: without one.
      scaling: s.
      dropout: probability that a weight is left out.

    Returns:
      [B, positions, heads, d].
    """
    with torch.autocast(query.device.type, enabled=False):
        products = query @ key.transpose(2, 3)
        if position_bias is None:
            scores = products * scaling
        else:
            # contiguous: T5 permutes its bias from [positions, key positions, heads], and so would be the scores
            scores = torch.add(position_bias.to(query.dtype).contiguous(), products, alpha=scaling)
        if attention_mask is not None:
            nowhere = torch.zeros(attention_mask.shape, dtype=query.dtype, device=query.device)
            scores = scores + nowhere.masked_fill(~attention_mask, torch.finfo(query.dtype).min)
        weights = scores.softmax(dim=-1)
        if dropout:
            weights = drop_out(weights, dropout)
        return (weights @ value).transpose(1, 2).contiguous()
