"""−log p(y|x) with a graph from the target back to the question encoder and the generator (section 2.4).

Passage vectors are given: passage encoder and index stay fixed. The gradient reaches the question encoder
through p(z|x), the softmax of its vector's inner products with the passages that were retrieved.

Legend: B questions, K documents of each, T target tokens, V vocabulary, D embedding size.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rag_core.marginalize import float32_or_better, rag_sequence_nll, rag_token_nll, token_log_probs
from rag_core.padding import pad_rows

ModelType = Literal["rag_sequence", "rag_token"]

_NLL: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "rag_sequence": rag_sequence_nll,
    "rag_token": rag_token_nll,
}


@dataclass(frozen=True)
class RagExample:
    """A question as the generator is trained on it.

    Attributes:
      contexts: token ids of `title / text // question`, one for each of its K documents.
      target: token ids of the answer, the end token among them where it counts.
    """

    contexts: Sequence[Sequence[int]]
    target: Sequence[int]


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
) -> Tensor:
    """−log p(y|x) of each question under RAG-Sequence or RAG-Token, by teacher forcing.

    Args:
      generator: a seq2seq model of `transformers`, in the mode that it is to compute in.
      prompt: what the decoder reads before the target, see `Generator.prompt`.
      doc_scores: [B, K].
      examples: B, each with K contexts.

    Returns:
      float64 [B].

    Raises:
      ValueError: a question has another number of contexts than scores, or an empty target.
    """
    count, n_docs = doc_scores.shape
    if len(examples) != count or any(len(example.contexts) != n_docs for example in examples):
        raise ValueError(f"expected {count} examples of {n_docs} contexts each, as there are scores")
    if not all(example.target for example in examples):
        raise ValueError("a target without tokens has no probability; give it its end token at least")
    targets, mask = pad_rows([example.target for example in examples], 0)
    under_documents = _token_log_probs(generator, prompt, examples, targets.repeat_interleave(n_docs, dim=0))
    return _NLL[model_type](
        doc_scores, under_documents.view(count, n_docs, -1), mask.bool().to(doc_scores.device)
    )


def _token_log_probs(
    generator: PreTrainedModel, prompt: Sequence[int], examples: Sequence[RagExample], targets: Tensor
) -> Tensor:
    """log p(y_t|x,z,y_<t) of every context, float64 [B·K, T]; of no meaning where a target has ended."""
    device = generator.device
    contexts = [context for example in examples for context in example.contexts]
    starts = torch.tensor(prompt).expand(len(contexts), -1)
    ids, mask = pad_rows(contexts, generator.config.pad_token_id or 0)
    logits = generator(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        decoder_input_ids=torch.cat([starts, targets[:, :-1]], dim=1).to(device),
        use_cache=False,
    ).logits
    return token_log_probs(logits[:, len(prompt) - 1 :], targets.to(device))
