"""Weights that training starts from: attention that already copies and compares words, then learns what to.

From the usual random weights a model of this size sits on a plateau for thousands of steps before its
attention finds out how to copy a word that it has never met. What it finds is known: a head that looks at
the word before, and one that looks for the word just written and takes what follows it (the induction
heads of Olsson et al. 2022). So the weights are drawn such that these heads are there at the start, as
Trockman and Kolter (2023) draw weights that resemble trained ones. Every weight is trained from there on.

Legend: D width, d size of a head, H heads.
"""

import torch
from torch import Tensor
from transformers import BertModel, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention

# T5's buckets of relative positions, of an encoder: −1, −2, +1, +2; of a decoder: 0 and −1
_NEIGHBOUR_BUCKETS = (1, 2, 17, 18)
_SAME_BUCKET, _PREVIOUS_BUCKET = 0, 1
_NEIGHBOUR_BIAS = 6.0  # e⁶ against 1 for every other position
_MATCH = 0.6  # d · 0.36 for the same word against about 0 for others, in nats
_CONTENT = 0.45
_SOFT_CONTENT = 0.35
_TITLE = 0  # the dimension of the embeddings that marks a title
_TITLE_PREFERRED = 0.6  # what it adds to attention, in nats for each unit
_GATHERED, _GATHERED_LATER = 4.0, 0.5  # a mean over many words is short: strengthened before it is added


@torch.no_grad()
def draw_generator(model: T5ForConditionalGeneration) -> None:
    """Draws attention anew: neighbours' sketches in the encoder, copying in the decoder.

    The first heads of the encoder's first layer write a sketch (d of D dimensions) of each neighbour beside
    a word. Cross-attention compares the word written last with the sketch of the word before, and takes the
    word itself: so it goes on with what comes next. The other heads attend to like words, in the encoder to
    those elsewhere: what the question and a passage have in common stands out (the duplicate token heads of
    Wang et al. 2023).

    Raises:
      ValueError: fewer than six heads.
    """
    heads, size, width = model.config.num_heads, model.config.d_kv, model.config.d_model
    neighbours = len(_NEIGHBOUR_BUCKETS)
    if heads < neighbours + 2:
        raise ValueError(f"{heads} heads; expected at least {neighbours + 2}")
    encoder, decoder = model.encoder.block, model.decoder.block
    bias = encoder[0].layer[0].SelfAttention.relative_attention_bias.weight  # [buckets, H]
    bias.zero_()
    bias[_SAME_BUCKET, neighbours:] = -_NEIGHBOUR_BIAS
    first = encoder[0].layer[0].SelfAttention
    reads, writes = [], []
    for head, bucket in enumerate(_NEIGHBOUR_BUCKETS):
        bias[bucket, head] = _NEIGHBOUR_BIAS
        reads.append(_directions(size, width))
        writes.append(_directions(size, width))
        _quieten(first, head)
        _set_values(first, head, reads[-1], writes[-1])
    for number, block in enumerate(encoder):
        attention = block.layer[0].SelfAttention
        for head in range(heads):
            if head >= neighbours:
                _attend_to_like(attention, head, _CONTENT)
            elif number:
                _quieten(attention, head)
            if number or head >= neighbours:
                _set_values(attention, head, 0.7 * _directions(size, width), 0.7 * _directions(size, width))
    bias = decoder[0].layer[0].SelfAttention.relative_attention_bias.weight
    bias.zero_()
    bias[_PREVIOUS_BUCKET, 0] = _NEIGHBOUR_BIAS
    bias[_SAME_BUCKET, 1] = _NEIGHBOUR_BIAS / 2
    for number, block in enumerate(decoder):
        attention = block.layer[1].EncDecAttention
        basis = _directions(width, width)
        for head in range(heads):
            start = head * size % width
            copied = basis[start : start + size]
            if len(copied) < size:
                copied = _directions(size, width)
            _set_values(attention, head, copied, copied)
            if number == 0 or head < heads // 2:
                rows = _rows(attention, head)
                attention.q.weight[rows] = _MATCH * reads[0]
                attention.k.weight[rows] = _MATCH * writes[0]
            else:
                _attend_to_like(attention, head, _SOFT_CONTENT)


def _rows(attention: T5Attention, head: int) -> slice:
    size = attention.key_value_proj_dim
    return slice(head * size, (head + 1) * size)


def _quieten(attention: T5Attention, head: int) -> None:
    """Leaves the head to its position bias."""
    rows = _rows(attention, head)
    attention.q.weight[rows] *= 0.1
    attention.k.weight[rows] *= 0.1


def _attend_to_like(attention: T5Attention, head: int, strength: float) -> None:
    directions = strength * _directions(attention.key_value_proj_dim, attention.d_model)
    attention.q.weight[_rows(attention, head)] = directions
    attention.k.weight[_rows(attention, head)] = directions


def _set_values(attention: T5Attention, head: int, read: Tensor, written: Tensor) -> None:
    """What the head takes of a word, and where in the vector it puts it; both [d, D]."""
    rows = _rows(attention, head)
    attention.v.weight[rows] = read
    attention.o.weight[:, rows] = written.T


@torch.no_grad()
def draw_encoder(model: BertModel, title_positions: int = 0) -> None:
    """Draws a BERT encoder anew, such that the first token's vector is a sum over the words of the text.

    Word vectors are long against those of positions, and values pass unchanged through the first layer: two
    texts have a high inner product where they share words. Attention prefers the first positions, where a
    passage has its title. Two encoders that start from the same draw so compare the words of a question
    with those of a passage, whatever the words are.

    Args:
      title_positions: how many positions after the first are preferred.
    """
    width, size = model.config.hidden_size, model.config.hidden_size // model.config.num_attention_heads
    embeddings = model.embeddings
    embeddings.word_embeddings.weight.normal_(0.0, 1.0)
    embeddings.word_embeddings.weight[:, _TITLE] = 0.0
    embeddings.position_embeddings.weight.normal_(0.0, 0.02)
    embeddings.position_embeddings.weight[1 : 1 + title_positions, _TITLE] = 3.0
    embeddings.token_type_embeddings.weight.zero_()
    for number, layer in enumerate(model.encoder.layer):
        attention = layer.attention.self
        for weights in (attention.query, attention.key):
            weights.weight.normal_(0.0, 0.02)
        for head in range(model.config.num_attention_heads):
            attention.key.weight[head * size] = torch.eye(width)[_TITLE]
            attention.query.bias[head * size] = _TITLE_PREFERRED * size**0.5
        basis = _directions(width, width)
        gathered = _GATHERED if number == 0 else _GATHERED_LATER
        attention.value.weight.copy_(basis)
        attention.value.weight[:, _TITLE] = 0.0  # weighs words, and says nothing of them
        layer.attention.output.dense.weight.copy_(gathered * basis.T)
        layer.output.dense.weight.normal_(0.0, 0.02)


def _directions(count: int, width: int) -> Tensor:
    """Random orthonormal directions [count, width]."""
    return torch.linalg.qr(torch.randn(width, width))[0][:count]
