"""−log p(y|x) with a graph from the target back to the question encoder and the generator (section 2.4).

Passage vectors are given: passage encoder and index stay fixed. The gradient reaches the question encoder
through p(z|x), the softmax of its vector's inner products with the passages that were retrieved.

Legend: B questions, K documents of each, T target tokens, V vocabulary, D embedding size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rag_core.marginalize import (
    document_log_prior,
    float32_or_better,
    rag_sequence_nll,
    rag_token_log_marginals,
    rag_token_nll,
    token_log_probs,
)
from rag_core.padding import pad_rows

ModelType = Literal["rag_sequence", "rag_token"]
NO_SCORE = -1e9
"""The score of a document that is not there: finite, so that gradients are, and of prior 0."""


@dataclass(frozen=True)
class RagExample:
    """A question as the generator is trained on it.

    Attributes:
      contexts: token ids of `title / text // question`, one for each of its K documents.
      target: token ids of the answer, the end token among them where it counts.
      holding: whether each document holds an answer; only looked at with abstention.
    """

    contexts: Sequence[Sequence[int]]
    target: Sequence[int]
    holding: Sequence[bool] = ()


@dataclass(frozen=True)
class Abstention:
    """How documents that hold no answer are taught to give none.

    Attributes:
      weight: λ, see `rag_nll`.
      end_token: what the generator says in place of an answer.
    """

    weight: float
    end_token: int


def document_scores(question_vectors: Tensor, passage_vectors: Tensor) -> Tensor:
    """d(z)·q(x) of the documents retrieved, [B, K] in float32 or better.

    Args:
      question_vectors: q(x) [B, D], with a graph to the question encoder.
      passage_vectors: d(z) [B, K, D], as the index stores them.
    """
    return torch.einsum("bd,bkd->bk", float32_or_better(question_vectors), float32_or_better(passage_vectors))


def rag_nll(
    model_type: ModelType,
    generator: PreTrainedModel,
    prompt: Sequence[int],
    doc_scores: Tensor,
    examples: Sequence[RagExample],
    label_smoothing: float = 0.0,
    abstention: Abstention | None = None,
) -> Tensor:
    """−log p(y|x) of each question under RAG-Sequence or RAG-Token, by teacher forcing.

    With label smoothing ε, log p of a target token becomes (1 − ε) log p(y_t) + ε / V Σ_v log p(v): for
    RAG-Token of the mixture's distribution, for RAG-Sequence of each document's, before the marginal.

    −log p(y|x) alone leaves what the generator reads in other documents as it is: their share of the gradient is
    their share of the answer, next to nothing. With abstention of weight λ they are taught to say nothing:
    λ / K Σ_z −log p(end|x,z) over the documents that hold no answer is added, and where none holds one it is
    all there is, as the answer could only be made up (not of the paper; like SQuAD 2.0's questions without an
    answer, Rajpurkar et al. 2018). Under RAG-Token such a document has its say at the tokens after the first too,
    which another document's answer has begun. There it is to favour none: added is also
    λ / K Σ_z KL(uniform ‖ p(·|x,z,y_<t)), its mean over t > 1.

    Args:
      generator: a seq2seq model of `transformers`, in the mode that it is to compute in.
      prompt: what the decoder reads before the target, see `Generator.prompt`.
      doc_scores: [B, K].
      examples: B, each with K contexts.
      label_smoothing: ε, in [0, 1).
      abstention: with it, each example tells which of its documents hold an answer; None: nothing is added.

    Returns:
      float64 [B].

    Raises:
      ValueError: a question has another number of contexts, or of marks for these, than scores, or an empty target.
    """
    count, n_docs = doc_scores.shape
    if len(examples) != count or any(len(example.contexts) != n_docs for example in examples):
        raise ValueError(f"expected {count} examples of {n_docs} contexts each, as there are scores")
    if not all(example.target for example in examples):
        raise ValueError("a target without tokens has no probability; give it its end token at least")
    targets, mask = pad_rows([example.target for example in examples], 0)
    targets, mask = targets.to(doc_scores.device), mask.bool().to(doc_scores.device)
    logits = _logits(generator, prompt, examples, targets.repeat_interleave(n_docs, dim=0))
    logits = logits.view(count, n_docs, *logits.shape[1:])  # [B, K, T, V]
    nll = _marginal_nll(model_type, doc_scores, logits, targets, mask, label_smoothing)
    if abstention is None:
        return nll
    holding = torch.tensor([[*example.holding] for example in examples], device=doc_scores.device)
    if holding.shape != doc_scores.shape:
        raise ValueError(f"expected {n_docs} marks for each of {count} examples, as there are scores")
    penalty = _abstention_nll(logits, abstention.end_token)
    if model_type == "rag_token":
        penalty = penalty + _divergence_from_uniform(logits[:, :, 1:], mask[:, 1:])
    there = doc_scores > NO_SCORE
    penalty = penalty.masked_fill(holding | ~there, 0.0).sum(dim=1) / there.sum(dim=1)
    made_up = ~(holding & there).any(dim=1)
    return nll.masked_fill(made_up, 0.0) + abstention.weight * penalty


def _abstention_nll(logits: Tensor, end_token: int) -> Tensor:
    """−log p(end|x,z) in the place of an answer, float64 [B, K] from logits [B, K, T, V]."""
    ends = torch.full((*logits.shape[:2], 1), end_token, device=logits.device)
    return -token_log_probs(logits[:, :, :1], ends).squeeze(-1)


def _divergence_from_uniform(logits: Tensor, mask: Tensor) -> Tensor:
    """KL(uniform ‖ p(·|x,z,y_<t)), its mean over the tokens of the mask: float64 [B, K].

    Args:
      logits: [B, K, T, V]; T may be 0.
      mask: boolean [B, T]; 0 is the mean of none.
    """
    divergence = -_mean_log_probs(logits) - math.log(logits.shape[-1])
    counted = mask.unsqueeze(1)
    return divergence.masked_fill(~counted, 0.0).sum(dim=-1) / counted.sum(dim=-1).clamp(min=1)


def _marginal_nll(
    model_type: ModelType,
    doc_scores: Tensor,
    logits: Tensor,
    targets: Tensor,
    mask: Tensor,
    label_smoothing: float,
) -> Tensor:
    """−log p(y|x), float64 [B], from logits [B, K, T, V] and targets with their mask [B, T]."""
    of_targets = token_log_probs(logits, targets.unsqueeze(1).expand(-1, logits.shape[1], -1))
    if model_type == "rag_sequence":
        if label_smoothing:
            of_targets = of_targets.lerp(_mean_log_probs(logits), label_smoothing)
        return rag_sequence_nll(doc_scores, of_targets, mask)
    nll = rag_token_nll(doc_scores, of_targets, mask)
    if not label_smoothing:
        return nll
    everywhere = _mixture_mean_log_probs(doc_scores, logits).masked_fill(~mask, 0.0).sum(dim=-1)
    return (1 - label_smoothing) * nll - label_smoothing * everywhere


def _mean_log_probs(logits: Tensor) -> Tensor:
    """1 / V Σ_v log p(v), float64 [...] from logits [..., V]."""
    logits = float32_or_better(logits)
    return logits.mean(dim=-1).double() - logits.logsumexp(dim=-1).double()


def _mixture_mean_log_probs(doc_scores: Tensor, logits: Tensor) -> Tensor:
    """1 / V Σ_v log Σ_z p(z|x) p(v|x,z,y_<t), float64 [B, T] from logits [B, K, T, V]."""
    log_probs = float32_or_better(logits).log_softmax(dim=-1)
    flat = log_probs.flatten(start_dim=2)  # [B, K, T·V]
    mixture = rag_token_log_marginals(document_log_prior(doc_scores), flat)
    return mixture.view(logits.shape[0], *logits.shape[2:]).mean(dim=-1)


def _logits(
    generator: PreTrainedModel, prompt: Sequence[int], examples: Sequence[RagExample], targets: Tensor
) -> Tensor:
    """The generator's logits at each target position [B·K, T, V]; of no meaning where a target has ended."""
    device = generator.device
    contexts = [context for example in examples for context in example.contexts]
    starts = torch.tensor(prompt, device=device).expand(len(contexts), -1)
    ids, mask = pad_rows(contexts, generator.config.pad_token_id or 0)
    logits: Tensor = generator(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        decoder_input_ids=torch.cat([starts, targets[:, :-1].to(device)], dim=1),
        use_cache=False,
    ).logits
    return logits[:, len(prompt) - 1 :]
