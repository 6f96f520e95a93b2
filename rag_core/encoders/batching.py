"""Batches of rows of like length, by a token budget: hardly any padding, rows back in their order."""

from collections.abc import Iterator

import numpy as np

from rag_core.errors import UsageError


def token_budget_batches(lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
    """Row numbers (int64) of each batch, longest rows first; every row once.

    Rows times the longest row's length is at most `batch_tokens`; a row longer than that is a batch of its
    own. Longest first, so that a budget too large for the device fails at once and not after an hour.

    Raises:
      UsageError: `batch_tokens` is below 1.
    """
    if batch_tokens < 1:
        raise UsageError(f"--batch_tokens {batch_tokens}: expected at least 1")
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        end = start + max(1, batch_tokens // longest)
        yield order[start:end]
        start = end
