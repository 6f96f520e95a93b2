"""Encoded documents and the decoder's state over them: the one primitive that every decoding is made of.

A decoder row is one prefix of one document. R documents have n rows each, document by document, so a
row's number is document · n + slot. Beam search, RAG-Token and the scoring of candidates differ only in
which tokens they feed and which rows they keep. Documents are encoded once, and their cross-attention
keys and values are projected once, by the first state that steps, and shared by all rows and states.

States that began at different times may be joined: their self-attention caches are aligned at the latest
token, padded on the left, and each row keeps its own positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutput

from rag_core.marginalize import float32_or_better
from rag_core.row_positions import RowPositions


@dataclass(frozen=True, slots=True)
class DecoderModel:
    """A model with what its decoder can do.

    Attributes:
      shares_documents: its attention lets decoder rows share a document's keys and values; where it does
        not, they are repeated.
      positions: of its decoder's rows.
    """

    model: PreTrainedModel
    shares_documents: bool
    positions: RowPositions

    @property
    def joins(self) -> bool:
        """Whether states that began at different times can be joined."""
        return self.shares_documents and self.positions.settable

    @property
    def reads_trees(self) -> bool:
        """Whether tokens of one pass can each have a position of their own."""
        return self.shares_documents and self.positions.learned


class EncodedDocuments:
    """Encoder states of R contexts, with their cross-attention keys and values once projected."""

    def __init__(
        self, decoder: DecoderModel, hidden: Tensor, mask: Tensor, cross_cache: DynamicCache | None = None
    ):
        """Holds what encoder passes gave.

        Args:
          hidden: encoder states [R, positions, size].
          mask: bool [R, positions], False for padding.
          cross_cache: keys and values, where they are projected already.
        """
        self.decoder = decoder
        self.hidden = hidden
        self.mask = mask
        self.cross_cache = DynamicCache() if cross_cache is None else cross_cache

    @classmethod
    def pack(cls, decoder: DecoderModel, states: Sequence[Tensor]) -> "EncodedDocuments":
        """Pads the encoder states of single contexts, [positions, size] each, to the longest."""
        lengths = torch.tensor([len(state) for state in states], device=states[0].device)
        mask = torch.arange(int(lengths.max()), device=lengths.device) < lengths.unsqueeze(1)
        return cls(decoder, pad_sequence(list(states), batch_first=True), mask)

    def __len__(self) -> int:
        return self.hidden.shape[0]

    @property
    def positions(self) -> int:
        """Tokens that each document takes, padding included."""
        return self.hidden.shape[1]

    @property
    def projected(self) -> bool:
        """Whether the cross-attention keys and values are there."""
        return len(self.cross_cache) > 0

    def select(self, documents: Tensor) -> "EncodedDocuments":
        """A copy of these documents (int64 indices), in this order; an index may occur again."""
        mask = self.mask[documents]
        longest = int(mask.sum(dim=1).max())
        cross_cache = DynamicCache()
        for number, (keys, values, _) in enumerate(self.cross_cache):
            cross_cache.update(keys[documents, :, :longest], values[documents, :, :longest], number)
        return EncodedDocuments(
            self.decoder, self.hidden[documents, :longest], mask[:, :longest], cross_cache
        )

    def join(self, other: "EncodedDocuments") -> "EncodedDocuments":
        """These documents, then the other's; either both are projected or neither."""
        positions = max(self.positions, other.positions)

        def joined(ours: Tensor, theirs: Tensor, dim: int) -> Tensor:
            return torch.cat([_padded(tensor, dim, positions) for tensor in (ours, theirs)])

        cross_cache = DynamicCache()
        for number, (ours, theirs) in enumerate(zip(self.cross_cache, other.cross_cache, strict=True)):
            cross_cache.update(joined(ours[0], theirs[0], 2), joined(ours[1], theirs[1], 2), number)
        return EncodedDocuments(
            self.decoder,
            joined(self.hidden, other.hidden, 1),
            joined(self.mask, other.mask, 1),
            cross_cache,
        )


def read_trees(documents: EncodedDocuments, tokens: Tensor, positions: Tensor, visible: Tensor) -> Tensor:
    """Feeds each document a tree of tokens in one pass; for models with `DecoderModel.reads_trees`.

    Args:
      tokens: int64 [R, N].
      positions: where each stands, int64 [R, N].
      visible: bool [R, N, N], which tokens each of them sees.

    Returns:
      Logits of the token after each node [R, N, V], float32 or better.
    """
    cache = EncoderDecoderCache(DynamicCache(), documents.cross_cache)
    return float32_or_better(_read(documents, cache, tokens, positions, visible.unsqueeze(1)))


class DecoderState:
    """Self-attention cache of the rows over encoded documents."""

    def __init__(self, documents: EncodedDocuments):
        """Starts with one row a document and nothing read."""
        self._documents = documents
        self._cache = EncoderDecoderCache(DynamicCache(), documents.cross_cache)
        self._num_documents = len(documents)
        self._slots = 1
        # of each document, how many places of its rows' cache are padding, on the left
        self._padding = torch.zeros(len(documents), dtype=torch.int64, device=documents.hidden.device)
        self._ragged = False  # whether any is padded

    @property
    def positions(self) -> int:
        """Tokens that each document takes, padding included."""
        return self._documents.positions

    def step(self, tokens: Tensor) -> Tensor:
        """Feeds tokens to every row.

        Args:
          tokens: int64 [R, n], one a row; or [R, 1, P], P tokens to the only row of each document, before
            any join.

        Returns:
          Logits of the next token [R, n, V], float32 or better (after the last of P tokens).
        """
        fed = tokens.reshape(self._num_documents * self._slots, -1)
        logits = _read(
            self._documents,
            self._cache,
            fed,
            self._row_positions(),
            self._self_attention_mask(fed.shape[1]),
        )
        return float32_or_better(logits[:, -1, :].view(self._num_documents, self._slots, -1))

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
        if not self._documents.decoder.shares_documents:
            self._documents = self._documents.select(rows)
        elif documents is not None:
            self._documents = self._documents.select(documents)
        if documents is not None:
            self._padding = self._padding[documents]
            self._drop_padding()
        self._cache = EncoderDecoderCache(self._cache.self_attention_cache, self._documents.cross_cache)
        self._num_documents, self._slots = parents.shape

    def join(self, other: "DecoderState") -> None:
        """Appends another state's documents and rows, as many rows a document as here; both have stepped."""
        lengths = [state._cache.self_attention_cache.get_seq_length() for state in (self, other)]
        length = max(lengths)
        cache = DynamicCache()
        for number, layers in enumerate(
            zip(self._cache.self_attention_cache, other._cache.self_attention_cache, strict=True)
        ):
            keys, values = (
                torch.cat([pad(layer[which], (0, 0, length - layer[which].shape[2], 0)) for layer in layers])
                for which in (0, 1)
            )
            cache.update(keys, values, number)
        self._padding = torch.cat(
            [state._padding + length - own for state, own in zip((self, other), lengths, strict=True)]
        )
        self._ragged = bool(self._padding.any())
        self._documents = self._documents.join(other._documents)
        self._cache = EncoderDecoderCache(cache, self._documents.cross_cache)
        self._num_documents += other._num_documents

    def _drop_padding(self) -> None:
        """Cuts off the places that are padding in every row."""
        if not self._ragged:
            return
        surplus = int(self._padding.min())
        if surplus:
            self._padding = self._padding - surplus
            for layer in self._cache.self_attention_cache.layers:
                assert isinstance(layer, DynamicLayer)
                assert layer.keys is not None and layer.values is not None
                layer.keys, layer.values = layer.keys[:, :, surplus:], layer.values[:, :, surplus:]
            self._ragged = bool(self._padding.any())

    def _row_positions(self) -> Tensor | None:
        """The position of each row's next token [R·n, 1], None where it is the same in all."""
        if not self._ragged:
            return None
        positions = self._cache.self_attention_cache.get_seq_length() - self._padding
        return positions.repeat_interleave(self._slots).unsqueeze(1)

    def _self_attention_mask(self, fed: int) -> Tensor | None:
        """What hides the padding from the rows' self-attention, None where there is none."""
        if not self._ragged:
            return None
        places = torch.arange(
            self._cache.self_attention_cache.get_seq_length() + fed, device=self._padding.device
        )
        mask = places >= self._padding.repeat_interleave(self._slots).unsqueeze(1)
        return mask.long()


def _read(
    documents: EncodedDocuments,
    cache: EncoderDecoderCache,
    tokens: Tensor,
    positions: Tensor | None,
    self_attention_mask: Tensor | None,
) -> Tensor:
    """One pass of the decoder over its rows' next tokens [rows, fed]; logits after each, in the model's dtype."""
    decoder = documents.decoder
    # a mask of four dimensions is taken as it is; two would be expanded to the number of queries
    mask = documents.mask[:, None, None, :] if decoder.shares_documents else documents.mask.long()
    with decoder.positions.at(positions):
        logits: Tensor = decoder.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=documents.hidden),
            attention_mask=mask,
            decoder_input_ids=tokens,
            decoder_attention_mask=self_attention_mask,
            cache=cache,
            use_cache=True,
        ).logits
    return logits


def _padded(tensor: Tensor, dim: int, length: int) -> Tensor:
    """Zeros appended along a dimension."""
    missing = length - tensor.shape[dim]
    return pad(tensor, (0, 0) * (tensor.dim() - 1 - dim) + (0, missing)) if missing else tensor
