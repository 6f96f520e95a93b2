"""DPR's training objective (Karpukhin et al. 2020, section 3.2): the other questions' passages are negatives.

Legend: B questions, P passages of the whole batch (positives and hard negatives of all questions), D
embedding size.
"""

import torch
from torch import Tensor

from rag_core.marginalize import float32_or_better


def in_batch_nll(
    question_vectors: Tensor, passage_vectors: Tensor, positives: Tensor, excluded: Tensor | None = None
) -> Tensor:
    """−log p(z⁺|x) with p(z|x) ∝ exp(d(z)·q(x)) over all passages of the batch (section 3.2, equation 2).

    Args:
      question_vectors: q(x) [B, D].
      passage_vectors: d(z) [P, D].
      positives: which passage answers each question, int64 [B].
      excluded: bool [B, P], True where a passage answers the question too without being its positive:
        it counts neither for nor against.

    Returns:
      [B], float32 or better.

    Raises:
      ValueError: a question's positive is excluded.
    """
    scores = _scores(question_vectors, passage_vectors, positives, excluded)
    return scores.logsumexp(dim=1) - scores.gather(1, positives.unsqueeze(1)).squeeze(1)


def positive_ranks(
    question_vectors: Tensor, passage_vectors: Tensor, positives: Tensor, excluded: Tensor | None = None
) -> Tensor:
    """How many passages score above each question's positive, or as high and stand before it (0 is best).

    Its mean is DPR's validation by average rank. Arguments as in `in_batch_nll`.

    Returns:
      int64 [B].
    """
    scores = _scores(question_vectors, passage_vectors, positives, excluded)
    own = scores.gather(1, positives.unsqueeze(1))
    before = torch.arange(scores.shape[1], device=scores.device) < positives.unsqueeze(1)
    return ((scores > own) | ((scores == own) & before)).sum(dim=1)


def _scores(
    question_vectors: Tensor, passage_vectors: Tensor, positives: Tensor, excluded: Tensor | None
) -> Tensor:
    """Inner products [B, P], −inf where excluded."""
    scores = float32_or_better(question_vectors) @ float32_or_better(passage_vectors).T
    if excluded is None:
        return scores
    if excluded.gather(1, positives.unsqueeze(1)).any():
        raise ValueError("a question's own positive is among the excluded passages")
    return scores.masked_fill(excluded, -torch.inf)
