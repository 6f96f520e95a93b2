"""A larger model computes what the smaller one did, and all of it can be trained."""

import pytest
import torch
from transformers import AutoTokenizer, DPRContextEncoder, T5Config, T5ForConditionalGeneration

from examples.grow import deepen_encoder, deepen_generator, main, widen
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


def test_more_hidden_units_are_the_same_function_and_learn(model):
    wider = widen(model, 40)
    assert (wider.config.d_ff, model.config.d_ff) == (40, 24)
    torch.testing.assert_close(logits(wider), logits(model), rtol=0, atol=1e-5)
    logits(wider).logsumexp(dim=-1).sum().backward()
    for block in (*wider.encoder.block, *wider.decoder.block):
        layer = block.layer[-1].DenseReluDense
        assert layer.wi.weight[24:].any(dim=1).all()
        assert not layer.wo.weight[:, 24:].any()
        assert layer.wo.weight.grad[:, 24:].any()


def test_an_encoder_with_more_hidden_units_is_the_same_function(encoder):
    before = encoder.config.intermediate_size
    wider = widen(encoder, before + 64)
    assert wider.ctx_encoder.bert_model.encoder.layer[0].intermediate.dense.out_features == before + 64
    torch.testing.assert_close(vectors(wider), vectors(encoder), rtol=0, atol=1e-5)


def test_nothing_is_taken_away(model):
    with pytest.raises(ValueError, match="2 layers; the encoder has 3 already"):
        deepen_generator(model, 2)
    with pytest.raises(ValueError, match="8 hidden units; there are 24 already"):
        widen(model, 8)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--layers", "1"], "1 layers; the encoder has 6 already"),
        (["--feed_forward", "5"], "5 hidden units; there are"),
        ([], "give --layers, --feed_forward or both"),
    ],
)
def test_the_command_says_so_too(options, expected, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--model", str(MODELS / "rag_labels"), "--output", str(tmp_path / "model"), *options])
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_the_command_saves_a_model_grown_in_both_ways(tmp_path):
    output = tmp_path / "model"
    options = ["--layers", "5", "--feed_forward", "2000", "--output", str(output)]
    main(["--model", str(MODELS / "passage_encoder"), *options])
    grown = DPRContextEncoder.from_pretrained(output)
    assert (grown.config.num_hidden_layers, grown.config.intermediate_size) == (5, 2000)
    assert AutoTokenizer.from_pretrained(output).tokenize("Paris")
