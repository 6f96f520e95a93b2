"""Encoded documents and the decoder's state over them: the one primitive that every decoding is made of.

A decoder row is one prefix of one document. R documents have n rows each, document by document, so a
row's number is document · n + slot. Beam search, RAG-Token and the scoring of candidates differ only in
which tokens they feed and which rows they keep. Documents are encoded once, and their cross-attention
keys and values are projected once, by the first state that steps, and shared by all rows and states.
"""

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class EncodedDocuments:
    """Encoder states of R contexts, with their cross-attention keys and values once projected."""

    def __init__(
        self,
        model: PreTrainedModel,
        hidden: Tensor,
        mask: Tensor,
        shared: bool,
        cross_cache: DynamicCache | None = None,
    ):
        """Holds what one encoder pass gave.

        Args:
          hidden: encoder states [R, positions, size].
          mask: bool [R, positions], False for padding.
          shared: whether the model's attention lets decoder rows share a document's keys and values; where
            it does not, they are repeated.
          cross_cache: keys and values, where they are projected already.
        """
        self.model = model
        self.hidden = hidden
        self.mask = mask
        self.shared = shared
        self.cross_cache = DynamicCache() if cross_cache is None else cross_cache

    def __len__(self) -> int:
        return self.hidden.shape[0]

    def select(self, documents: Tensor) -> "EncodedDocuments":
        """A copy of these documents (int64 indices), in this order; an index may occur again."""
        cross_cache = DynamicCache()
        for number, (keys, values, _) in enumerate(self.cross_cache):
            cross_cache.update(keys[documents], values[documents], number)
        return EncodedDocuments(
            self.model, self.hidden[documents], self.mask[documents], self.shared, cross_cache
        )


class DecoderState:
    """Self-attention cache of the rows over encoded documents."""

    def __init__(self, documents: EncodedDocuments):
        """Starts with one row a document and nothing read."""
        self._documents = documents
        self._cache = EncoderDecoderCache(DynamicCache(), documents.cross_cache)
        self._num_documents = len(documents)
        self._slots = 1

    def step(self, tokens: Tensor) -> Tensor:
        """Feeds tokens to every row.

        Args:
          tokens: int64 [R, n], one a row; or [R, 1, P], P tokens to the only row of each document.

        Returns:
          Logits of the next token [R, n, V], float32 or better (after the last of P tokens).
        """
        documents = self._documents
        # a mask of four dimensions is taken as it is; two would be expanded to the number of queries
        mask = documents.mask[:, None, None, :] if documents.shared else documents.mask.long()
        output = self._documents.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=documents.hidden),
            attention_mask=mask,
            decoder_input_ids=tokens.reshape(self._num_documents * self._slots, -1),
            past_key_values=self._cache,
            use_cache=True,
        )
        logits = output.logits[:, -1, :].view(self._num_documents, self._slots, -1)
        return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits

    def select(self, parents: Tensor, documents: Tensor | None = None) -> None:
        """Replaces the rows: the new row i of a document continues its old row `parents[document, i]`.

        Args:
          parents: slots, int64 [R, new n].
          documents: which documents stay (int64 indices), None for all; `parents` has a line for each.
        """
        kept = torch.arange(self._num_documents, device=parents.device) if documents is None else documents
        rows = (kept.unsqueeze(1) * self._slots + parents).flatten()
        unchanged = documents is None and parents.shape[1] == self._slots == 1
        if not unchanged:
            self._cache.self_attention_cache.batch_select_indices(rows)
        if not self._documents.shared:
            self._documents = self._documents.select(rows)
        elif documents is not None:
            self._documents = self._documents.select(documents)
        self._cache = EncoderDecoderCache(self._cache.self_attention_cache, self._documents.cross_cache)
        self._num_documents, self._slots = parents.shape
