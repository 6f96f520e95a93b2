"""Packed BERT against transformers' BertModel with plain padding, and against itself in other batches."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertLMHeadModel, BertModel, RobertaConfig, RobertaModel

from rag_core.encoders import packed_bert
from rag_core.encoders.packed_bert import PackedBert, is_packable
from rag_core.encoders.padded_model import PaddedModel
from rag_core.encoders.pooling import Pooling

LENGTHS = [1, 2, 3, 3, 7, 20, 20, 64]


def make_bert(seed: int = 0, **sizes: Any) -> BertModel:
    torch.manual_seed(seed)
    wanted = {
        "vocab_size": 50,
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 96,
        "max_position_embeddings": 80,
        "initializer_range": 0.3,
    }
    model = BertModel(BertConfig(**wanted | sizes), add_pooling_layer=False)
    return model.eval().requires_grad_(False)


def make_rows(lengths: list[int], seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 50, length) for length in lengths]


@torch.inference_mode()
def encode(model: Any, rows: list[np.ndarray]) -> np.ndarray:
    return model(rows).numpy()


@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize(
    "sizes", [{}, {"num_hidden_layers": 1}, {"hidden_act": "relu", "layer_norm_eps": 1e-3}], ids=str
)
def test_vectors_equal_those_of_a_padded_batch(pooling: Pooling, sizes: dict[str, Any]) -> None:
    model = make_bert(**sizes)
    rows = make_rows(LENGTHS)
    expected = encode(PaddedModel(copy.deepcopy(model).double(), 0, pooling), rows)  # pooled in float32
    vectors = encode(PackedBert(model, pooling), rows)
    assert vectors.dtype == np.float32
    assert np.abs(vectors - expected).max() < 1e-5 * np.linalg.norm(expected, axis=1).max()


# Which order of sums a matrix library takes is its own affair; it was looked at for MKL with AVX2.
avx2 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX2", reason="bits are promised only where they were tried"
)


@avx2
@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_vector_has_the_same_bits_in_any_batch(pooling: Pooling, dtype: torch.dtype) -> None:
    model = PackedBert(make_bert().to(dtype), pooling)
    rows = make_rows(LENGTHS * 3)
    together = encode(model, rows)

    @settings(deadline=None, max_examples=60)
    @given(chosen=st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=30))
    def check(chosen: list[int]) -> None:
        assert np.array_equal(encode(model, [rows[row] for row in chosen]), together[chosen])

    check()


@avx2
def test_a_vector_of_the_width_of_bert_base_has_the_same_bits_in_any_batch() -> None:
    model = PackedBert(
        make_bert(hidden_size=768, num_hidden_layers=1, num_attention_heads=12, intermediate_size=3072),
        Pooling.MEAN,
    )
    rows = make_rows([5, 17, 31, 64, 64, 80])
    together = encode(model, rows)
    for chosen in ([0], [1, 2], [3, 0, 5], [4, 4, 4, 4, 1], [2, 5, 1, 3, 0, 4]):
        assert np.array_equal(encode(model, [rows[row] for row in chosen]), together[chosen])


def test_the_kernel_for_all_lengths_is_given_the_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU runs, with a stand-in for the kernel that follows its documentation."""
    calls = []

    def varlen_attn(query, key, value, starts_q, starts_k, longest_q, longest_k):
        calls.append((starts_q.dtype, longest_q, longest_k))
        pieces = []
        for text in range(len(starts_q) - 1):
            q = query[starts_q[text] : starts_q[text + 1]].transpose(0, 1)
            k, v = (x[starts_k[text] : starts_k[text + 1]].transpose(0, 1) for x in (key, value))
            assert q.shape[1] <= longest_q and k.shape[1] <= longest_k
            weights = torch.softmax(q @ k.transpose(1, 2) * q.shape[2] ** -0.5, dim=-1)
            pieces.append((weights @ v).transpose(0, 1))
        return torch.cat(pieces)

    model = PackedBert(make_bert(), Pooling.FIRST_TOKEN)
    rows = make_rows(LENGTHS)
    expected = encode(model, rows)
    monkeypatch.setattr(packed_bert, "varlen_attn", varlen_attn)
    monkeypatch.setattr(packed_bert, "_has_varlen_kernel", lambda states: True)
    assert np.abs(encode(model, rows) - expected).max() < 1e-5
    assert calls == [(torch.int32, 64, 64)] * 2 + [(torch.int32, 1, 64)]


def test_only_bert_as_it_was_published_is_packed() -> None:
    assert is_packable(make_bert())
    assert not is_packable(make_bert(is_decoder=True))
    assert not is_packable(BertLMHeadModel(make_bert(is_decoder=True).config))
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    assert not is_packable(RobertaModel(RobertaConfig(vocab_size=9, **small)))
