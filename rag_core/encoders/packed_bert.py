"""BERT over the tokens of many texts laid end to end, without padding between them.

Three things that a padded batch computes for nothing are left away: padding, the query, key and value
of a layer as three products, and, where the vector is the first token's, all other tokens of the last
layer (a twelfth of BERT-base's time, nearly).

A text's vector does not depend on what it is batched with, to the last bit where the matrix library
allows it: libraries sum in another order where a product is short, so there is always a whole number of
`_TOKEN_BLOCK` tokens, and at least `_LEAST_QUERIES` queries. (MKL with AVX2 keeps to it but for heads of
8, whose short rows it sums by how they lie in memory.) `Tower.batch_invariant` tries it on the device.

Shapes: T tokens of a batch, R texts, L tokens of a text, H heads, S head size, W = H · S hidden size.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import BertModel, PreTrainedModel

from rag_core.encoders.pooling import Pooling

_TOKEN_BLOCK = 32
_LEAST_QUERIES = 4


@dataclass(frozen=True, eq=False)
class _Layer:
    """One transformer layer's weights; `qkv` is the three projections in one, [3W, W]."""

    qkv: nn.Linear
    attention_output: nn.Linear
    attention_norm: nn.LayerNorm
    intermediate: nn.Linear
    activation: nn.Module
    output: nn.Linear
    output_norm: nn.LayerNorm
    heads: int

    def finish(self, attended: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """What follows attention: `attended` and the layer's input `states`, both [T, W], to [T, W]."""
        states = self.attention_norm(self.attention_output(attended) + states)
        return self.output_norm(self.output(self.activation(self.intermediate(states))) + states)


class PackedBert:
    """A `BertModel` for inference, with its pooling; the model loses its projections to it.

    See `tower.PooledModel`.
    """

    def __init__(self, model: BertModel, pooling: Pooling):
        self._embeddings = model.embeddings
        self._layers = [_take_layer(layer) for layer in model.encoder.layer]
        self._pooling = pooling

    @property
    def is_padded(self) -> bool:
        """False: texts do not see each other's lengths."""
        return False

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and arithmetic."""
        return self._embeddings.word_embeddings.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._embeddings.word_embeddings.weight.device

    def __call__(self, rows: Sequence[np.ndarray]) -> torch.Tensor:
        """Pooled vectors, float32 [R, W] on the device, of token ids, int64 [L] a text, all with special tokens."""
        batch = _PackedRows.of(rows, self.device)
        states = self._embed(batch)
        for layer in self._layers[:-1]:
            states = _all_tokens(layer, states, batch)
        last = self._layers[-1]
        if self._pooling is Pooling.FIRST_TOKEN:
            return _first_tokens(last, states, batch)[: len(rows)].float()
        states = _all_tokens(last, states, batch)[: batch.tokens].float()
        return torch.segment_reduce(states, "mean", lengths=batch.lengths)

    def _embed(self, batch: "_PackedRows") -> torch.Tensor:
        """[T, W]; all tokens are of type 0, see `Tower`."""
        embeddings = self._embeddings
        states = embeddings.word_embeddings(batch.ids)
        states = states + embeddings.token_type_embeddings.weight[0]
        return embeddings.LayerNorm(states + embeddings.position_embeddings(batch.positions))


def _all_tokens(layer: _Layer, states: torch.Tensor, batch: "_PackedRows") -> torch.Tensor:
    """The layer's output for every token: [T, W] to [T, W]."""
    query, key, value = _heads(layer.qkv(states), layer.heads, 3)
    return layer.finish(_attend(query, key, value, batch, batch.starts), states)


def _first_tokens(layer: _Layer, states: torch.Tensor, batch: "_PackedRows") -> torch.Tensor:
    """The layer's output for the first token of each text: [T, W] to [at least R, W]."""
    width = states.shape[1]
    weight, bias = layer.qkv.weight, layer.qkv.bias
    firsts = states[batch.firsts]
    [query] = _heads(functional.linear(firsts, weight[:width], bias[:width]), layer.heads, 1)
    key, value = _heads(functional.linear(states, weight[width:], bias[width:]), layer.heads, 2)
    return layer.finish(_attend(query, key, value, batch, batch.rows), firsts)


def _take_layer(layer: Any) -> _Layer:
    attention = layer.attention.self
    projections = (attention.query, attention.key, attention.value)
    weight = torch.cat([projection.weight for projection in projections])
    qkv = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    qkv.weight = nn.Parameter(weight, requires_grad=False)
    qkv.bias = nn.Parameter(torch.cat([projection.bias for projection in projections]), requires_grad=False)
    del attention.query, attention.key, attention.value  # or their memory is held twice
    return _Layer(
        qkv=qkv,
        attention_output=layer.attention.output.dense,
        attention_norm=layer.attention.output.LayerNorm,
        intermediate=layer.intermediate.dense,
        activation=layer.intermediate.intermediate_act_fn,
        output=layer.output.dense,
        output_norm=layer.output.LayerNorm,
        heads=attention.num_attention_heads,
    )


@dataclass(frozen=True)
class _Run:
    """Texts of one length that follow each other: `rows` times `length` tokens from token `begin` on."""

    first_row: int
    rows: int
    begin: int
    length: int

    def cut(self, tokens: torch.Tensor, per_row: bool = False) -> torch.Tensor:
        """The run's own [rows, L, …] of [T, …], or [rows, 1, …] of what has one entry a text; a view."""
        begin, length = (self.first_row, 1) if per_row else (self.begin, self.length)
        return tokens[begin : begin + self.rows * length].view(self.rows, length, *tokens.shape[1:])


@dataclass(frozen=True, eq=False)
class _PackedRows:
    """A batch laid end to end, filled up to whole blocks with tokens that belong to no text.

    Attributes:
      tokens: of the texts, filling not counted.
      ids: int64 [T].
      positions: int64 [T], from 0 in each text.
      firsts: int64 [R and filling], where each text begins.
      lengths: int64 [R].
      starts: int32 [R + 1], where each text begins and the last one ends.
      rows: int32 [R + 1], 0 to R.
      longest: the largest of the lengths.
    """

    tokens: int
    ids: torch.Tensor
    positions: torch.Tensor
    firsts: torch.Tensor
    lengths: torch.Tensor
    starts: torch.Tensor
    rows: torch.Tensor
    longest: int
    runs: list[_Run]

    @classmethod
    def of(cls, rows: Sequence[np.ndarray], device: torch.device) -> "_PackedRows":
        lengths = np.array([len(row) for row in rows])
        starts = np.concatenate([[0], np.cumsum(lengths)])
        tokens = int(starts[-1])
        ids = np.zeros(_whole_blocks(tokens), dtype=np.int64)
        ids[:tokens] = np.concatenate(rows)
        positions = np.zeros_like(ids)
        positions[:tokens] = np.arange(tokens) - np.repeat(starts[:-1], lengths)
        firsts = np.zeros(_whole_blocks(len(rows)), dtype=np.int64)
        firsts[: len(rows)] = starts[:-1]
        return cls(
            tokens=tokens,
            ids=_to_device(ids, device),
            positions=_to_device(positions, device),
            firsts=_to_device(firsts, device),
            lengths=_to_device(lengths, device),
            starts=_to_device(starts.astype(np.int32), device),
            rows=_to_device(np.arange(len(rows) + 1, dtype=np.int32), device),
            longest=int(lengths.max()),
            runs=list(_runs(lengths.tolist())),
        )


def _whole_blocks(count: int) -> int:
    return -(-count // _TOKEN_BLOCK) * _TOKEN_BLOCK


def _to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copies without waiting: the next batch is laid out while the device computes this one."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _runs(lengths: Sequence[int]) -> Iterator[_Run]:
    first_row = begin = 0
    for length, group in itertools.groupby(lengths):
        rows = sum(1 for _ in group)
        yield _Run(first_row, rows, begin, length)
        first_row += rows
        begin += rows * length


def _heads(projected: torch.Tensor, heads: int, parts: int) -> tuple[torch.Tensor, ...]:
    """[T, parts · W] to `parts` tensors [T, H, S]; views."""
    return projected.view(len(projected), parts, heads, -1).unbind(dim=1)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    batch: _PackedRows,
    query_starts: torch.Tensor,
) -> torch.Tensor:
    """softmax(q kᵀ / √S) v within each text; zeros for the filling.

    Args:
      query: [T, H, S] with `batch.starts` for all tokens, or [R and filling, H, S] with `batch.rows` for
        the first of each text.
      key, value: [T, H, S].

    Returns:
      [T or R and filling, W].
    """
    attended = torch.zeros(query.shape, dtype=query.dtype, device=query.device)
    per_row = query_starts is batch.rows
    if _has_varlen_kernel(query):
        used = len(batch.rows) - 1 if per_row else batch.tokens
        found = varlen_attn(
            query[:used],
            key[: batch.tokens],
            value[: batch.tokens],
            query_starts,
            batch.starts,
            1 if per_row else batch.longest,
            batch.longest,
        )
        assert isinstance(found, torch.Tensor)  # a pair only where more is asked for
        attended[:used] = found
    else:
        for run in batch.runs:
            run.cut(attended, per_row)[:] = _attention(run.cut(query, per_row), run.cut(key), run.cut(value))
    return attended.flatten(start_dim=1)


def _has_varlen_kernel(states: torch.Tensor) -> bool:
    """Whether one kernel serves texts of all lengths where and how these states are."""
    return states.is_cuda and states.dtype in (torch.float16, torch.bfloat16)


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention over whole sequences: [rows, Q, H, S] queries of [rows, L, H, S] to [rows, Q, H, S]."""
    queries = query.shape[1]
    missing = max(0, _LEAST_QUERIES - queries)
    query = functional.pad(query, (0, 0, 0, 0, 0, missing)) if missing else query
    attended = functional.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    )
    return attended.transpose(1, 2)[:, :queries]


def is_packable(model: PreTrainedModel) -> TypeGuard[BertModel]:
    """Whether `PackedBert` computes what this model does: a BERT encoder as it was published."""
    if type(model) is not BertModel:
        return False
    config = model.config
    return not config.is_decoder and getattr(config, "position_embedding_type", "absolute") == "absolute"
