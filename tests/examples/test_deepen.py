"""A deeper model computes what the shallower one did, and all of it can be trained."""

import pytest
import torch
from transformers import AutoTokenizer, DPRContextEncoder, T5Config, T5ForConditionalGeneration

from examples.deepen import deepen_encoder, deepen_generator, main
from examples.ship_models import MODELS

CONTEXTS = torch.tensor([[5, 9, 7, 3, 1], [4, 4, 1, 0, 0]])
TARGETS = torch.tensor([[6, 8, 1], [2, 1, 0]])


@pytest.fixture
def model():
    torch.manual_seed(5)
    config = T5Config(
        vocab_size=12,
        d_model=16,
        d_kv=4,
        d_ff=24,
        num_layers=3,
        num_decoder_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config).eval()


def logits(model):
    return model(input_ids=CONTEXTS, attention_mask=(CONTEXTS > 0).long(), labels=TARGETS).logits


@pytest.mark.parametrize("layers", [3, 4, 6, 8])
def test_more_layers_are_the_same_function(model, layers):
    deeper = deepen_generator(model, layers)
    assert len(deeper.encoder.block) == deeper.config.num_layers == layers
    assert model.config.num_layers == 3  # the model given is as it was
    assert torch.equal(logits(deeper), logits(model))


def test_every_new_layer_learns(model):
    deeper = deepen_generator(model, 6)
    new = [block for block in deeper.encoder.block if not block.layer[0].SelfAttention.o.weight.any()]
    assert len(new) == 3
    logits(deeper).logsumexp(dim=-1).sum().backward()
    for block in new:
        assert block.layer[0].SelfAttention.o.weight.grad.any()
        assert block.layer[1].DenseReluDense.wo.weight.grad.any()


@pytest.fixture
def encoder():
    return DPRContextEncoder.from_pretrained(MODELS / "passage_encoder").eval()


def vectors(encoder):
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "passage_encoder")
    texts = ["Paris", "The capital of Libya is Tripoli.", "Gold has the symbol Au and the atomic number 79."]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    return encoder(tokens["input_ids"], tokens["attention_mask"]).pooler_output


def test_a_trained_encoder_with_two_layers_more_is_nearly_the_same_function(encoder):
    before = encoder.config.num_hidden_layers
    deeper = deepen_encoder(encoder, before + 2)
    assert len(deeper.ctx_encoder.bert_model.encoder.layer) == deeper.config.num_hidden_layers == before + 2
    assert encoder.config.num_hidden_layers == before
    with torch.no_grad():
        was, now = vectors(encoder), vectors(deeper)
    # what normalisation loses where it does not fit is little beside what tells texts apart
    assert (now - was).norm(dim=1).max() < 0.05 * torch.pdist(was).min()
    vectors(deeper)[0].sum().backward()
    layers = deeper.ctx_encoder.bert_model.encoder.layer
    assert all(layer.output.dense.weight.grad.any() for layer in layers)


def test_layers_are_not_taken_away(model):
    with pytest.raises(ValueError, match="2 layers; the encoder has 3 already"):
        deepen_generator(model, 2)


def test_the_command_says_so_too(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--model", str(MODELS / "rag_token"), "--layers", "1", "--output", str(tmp_path / "model")])
    assert "--layers: 1 layers; the encoder has 6 already" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
