"""Cross-attention whose keys and values are held once a document and shared by all its decoder rows.

Beams and candidates of one document attend to the same encoder states. Instead of repeating keys and
values for each of them, their queries are read as several query positions of one document. This is an
attention function in `transformers`' registry, so it serves every model built on that interface.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from rag_core.plain_attention import is_faster, plain_attention

SHARED_ATTENTION = "sdpa_shared_documents"


def shared_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention that takes several query rows for one row of keys.

    Args:
      query: [R·n, heads, 1, d] for n decoder rows of each of R documents, document by document; any
        length where n is 1.
      key, value: [R, heads, positions, d].
      attention_mask: broadcastable to [R, heads, 1, positions].

    Returns:
      [R·n, query positions, heads, d], and None in place of the attention weights.
    """
    rows, heads, _, size = query.shape
    documents = key.shape[0]
    bias = kwargs.get("position_bias")
    if is_faster(query, bias):
        if attention_mask is None and module.is_causal:
            attention_mask = query.new_ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()
        trained = {name: kwargs[name] for name in ("scaling", "dropout")}
        return plain_attention(query, key, value, attention_mask, bias, **trained), None
    if rows == documents:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    grouped = query.view(documents, rows // documents, heads, size).transpose(1, 2)
    output, _ = sdpa_attention_forward(module, grouped, key, value, attention_mask, **kwargs)
    return output.reshape(rows, 1, heads, -1), None


AttentionInterface.register(SHARED_ATTENTION, shared_attention)
AttentionMaskInterface.register(SHARED_ATTENTION, sdpa_mask)
