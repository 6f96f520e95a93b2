"""Tokens that the decoding settings do not allow: repeated n-grams, and an end before the minimum length.

With such rules more than the model shapes a search, so Thorough Decoding cannot be certified from it.
"""

import torch
from torch import Tensor

from rag_core.answers import DecodingSettings

NO_TOKEN = -1  # stands before the prompt of prefixes that are shorter than others


def without_banned(
    values: Tensor, prefixes: Tensor, steps: Tensor, end_token: int, settings: DecodingSettings
) -> Tensor:
    """Tokens that are not allowed get −inf, the others keep their value.

    Args:
      values: log p(token|x,prefix) over the vocabulary, up to a constant, [A, n, V].
      prefixes: the beams' tokens, the decoder's prompt included, NO_TOKEN before it, int64 [A, n, length].
      steps: tokens after the prompt, int64 [A].

    Returns:
      [A, n, V]; `values` itself where the settings have no such rule.
    """
    size = settings.no_repeat_ngram
    repeats = 0 < size <= prefixes.shape[-1]
    if not (repeats or settings.min_new_tokens):
        return values
    values = values.clone()
    values[steps < settings.min_new_tokens, :, end_token] = -torch.inf
    if repeats:
        windows = prefixes.unfold(-1, size, 1)  # [A, n, windows, size]
        latest = prefixes[..., prefixes.shape[-1] - size + 1 :].unsqueeze(2)
        seen = (windows[..., :-1] == latest).all(dim=-1) & (windows != NO_TOKEN).all(dim=-1)
        ban = torch.zeros_like(values)
        ban.scatter_add_(-1, windows[..., -1].clamp(min=0), seen.to(values.dtype))
        values.masked_fill_(ban > 0, -torch.inf)
    return values
