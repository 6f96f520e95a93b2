"""The equations of RAG, on tensors only (Lewis et al. 2020, sections 2.1 to 2.5).

Legend: B questions, K documents of one question, T target tokens (the end token included), V vocabulary,
L labels. `...` stands for any leading dimensions. Log-probabilities are natural logarithms.

Softmax over documents and sums of log-probabilities are in float64 whatever the model's dtype: at DPR's
magnitudes a bfloat16 score moves p(z|x) by about 5 % in total variation. Documents that a question
does not have (K differs inside a batch) carry the score −inf, hence the prior 0. Every function is
differentiable; in training the gradient reaches the question encoder through `doc_scores`.
"""

import torch
from torch import Tensor


def document_log_prior(doc_scores: Tensor) -> Tensor:
    """log p(z|x), p(z|x) ∝ exp(d(z)·q(x)): softmax over the retrieved K only (section 2.2).

    Args:
      doc_scores: inner products [..., K], float32 or better.

    Returns:
      float64 [..., K].
    """
    return doc_scores.double().log_softmax(dim=-1)


def float32_or_better(logits: Tensor) -> Tensor:
    """Logits in a dtype in which sums over the vocabulary hold; the same tensor where they are already."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def log_normalisers(logits: Tensor, dim: int = -1) -> Tensor:
    """log Σ exp(logits), for inference; like `logsumexp`, which is many times slower on a CPU for peaked models.

    What is below the largest by more than 80 adds nothing that any floating point number holds, but its
    exponential is denormal, and slow.

    Args:
      logits: float32 or better; reduced along `dim`.
    """
    largest = logits.amax(dim=dim, keepdim=True)
    total = (logits - largest).clamp_(min=-80.0).exp_().sum(dim=dim)
    return total.log_().add_(largest.squeeze(dim))


def token_log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """log p(target) under softmax(logits), without the log-softmax over the vocabulary.

    Args:
      logits: [..., V].
      targets: token ids, int64 [...].

    Returns:
      float64 [...].
    """
    logits = float32_or_better(logits)
    chosen = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return chosen.double() - logits.logsumexp(dim=-1).double()


def rag_sequence_log_likelihood(log_prior: Tensor, sequence_log_probs: Tensor) -> Tensor:
    """log p(y|x) = logsumexp_z [log p(z|x) + log p(y|x,z)] (section 2.1, RAG-Sequence).

    Args:
      log_prior: log p(z|x) [..., K].
      sequence_log_probs: log p(y|x,z), summed over the target's tokens [..., K].

    Returns:
      [...].
    """
    return (log_prior + sequence_log_probs).logsumexp(dim=-1)


def rag_token_log_marginals(log_prior: Tensor, token_log_probs: Tensor) -> Tensor:
    """log p(y_t|x,y_<t) = logsumexp_z [log p(z|x) + log p(y_t|x,z,y_<t)] (section 2.1, RAG-Token).

    The weight of a document is the prior at every step; the prefix never updates it. Their sum over t
    is log p(y|x).

    Args:
      log_prior: log p(z|x) [..., K].
      token_log_probs: log p(y_t|x,z,y_<t) [..., K, T].

    Returns:
      [..., T].
    """
    return (log_prior.unsqueeze(-1) + token_log_probs).logsumexp(dim=-2)


def rag_sequence_nll(doc_scores: Tensor, token_log_probs: Tensor, target_mask: Tensor) -> Tensor:
    """−log p(y|x) of RAG-Sequence, the training loss of each question (section 2.4).

    Args:
      doc_scores: [B, K].
      token_log_probs: log p(y_t|x,z,y_<t) [B, K, T]; any finite value where masked.
      target_mask: bool [B, T], False for padding.

    Returns:
      float64 [B].
    """
    scored = token_log_probs.double().masked_fill(~target_mask.unsqueeze(1), 0.0)
    return -rag_sequence_log_likelihood(document_log_prior(doc_scores), scored.sum(dim=-1))


def rag_token_nll(doc_scores: Tensor, token_log_probs: Tensor, target_mask: Tensor) -> Tensor:
    """−log p(y|x) of RAG-Token, the training loss of each question (section 2.4).

    Args:
      doc_scores: [B, K].
      token_log_probs: log p(y_t|x,z,y_<t) [B, K, T]; any finite value where masked.
      target_mask: bool [B, T], False for padding.

    Returns:
      float64 [B].
    """
    marginals = rag_token_log_marginals(document_log_prior(doc_scores), token_log_probs.double())
    return -marginals.masked_fill(~target_mask, 0.0).sum(dim=-1)


def document_posterior(log_prior: Tensor, log_likelihoods: Tensor) -> Tensor:
    """p(z|x,y) = p(z|x) p(y|x,z) / p(y|x).

    Args:
      log_prior: log p(z|x) [..., K].
      log_likelihoods: log p(y|x,z) [..., K]; −inf where a document is left out.

    Returns:
      [..., K], sums to 1.
    """
    return (log_prior + log_likelihoods).softmax(dim=-1)


def rag_token_posteriors(log_prior: Tensor, token_log_probs: Tensor) -> Tensor:
    """p(z|x,y_t,y_<t) of RAG-Token for each token: p(z|x) p(y_t|x,z,y_<t) / Σ_z' (the paper's Figure 2).

    Args:
      log_prior: log p(z|x) [..., K].
      token_log_probs: log p(y_t|x,z,y_<t) [..., K, T].

    Returns:
      [..., K, T], sums to 1 over K.
    """
    return (log_prior.unsqueeze(-1) + token_log_probs).softmax(dim=-2)


def rag_sequence_prefix_posteriors(log_prior: Tensor, token_log_probs: Tensor) -> tuple[Tensor, Tensor]:
    """RAG-Sequence read token by token: the posterior after each prefix, and what each token adds.

    p(z|x,y_≤t) ∝ p(z|x) Π_{s≤t} p(y_s|x,z,y_<s), and log p(y_≤t|x) − log p(y_<t|x), whose sum over t
    is log p(y|x).

    Args:
      log_prior: log p(z|x) [..., K].
      token_log_probs: log p(y_t|x,z,y_<t) [..., K, T]; −inf where a document is left out.

    Returns:
      posteriors [..., K, T] and log-probabilities of the tokens [..., T].
    """
    joint = log_prior.unsqueeze(-1) + token_log_probs.cumsum(dim=-1)
    prefix_log_probs = joint.logsumexp(dim=-2)
    start = log_prior.logsumexp(dim=-1, keepdim=True)
    return joint.softmax(dim=-2), torch.diff(prefix_log_probs, prepend=start, dim=-1)


def label_log_likelihoods(log_prior: Tensor, label_log_probs: Tensor) -> Tensor:
    """log p(l|x) = logsumexp_z [log p(z|x) + log p(l|x,z)], not renormalised (section 3.4).

    For a label of one token this is what RAG-Sequence and RAG-Token both say; its softmax over the
    labels renormalises it.

    Args:
      log_prior: log p(z|x) [..., K].
      label_log_probs: log p(l|x,z), summed over the label's tokens [..., K, L].

    Returns:
      [..., L].
    """
    return (log_prior.unsqueeze(-1) + label_log_probs).logsumexp(dim=-2)
