"""The average lies between the models, weight by weight."""

import pytest
import torch
from transformers import DPRContextEncoder, T5Config, T5ForConditionalGeneration

from examples.average_weights import average_weights, main
from examples.ship_models import MODELS
from rag_core.encoders import load_question_encoder
from rag_core.generator import load_generator
from rag_core.model_files import model_fingerprint
from tests.rag_core.tiny_encoders import write_dpr_passage_encoder, write_dpr_question_encoder


def t5(seed, layers=1):
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=12, d_model=8, d_kv=4, d_ff=8, num_layers=layers, num_heads=2, decoder_start_token_id=0
    )
    return T5ForConditionalGeneration(config).eval()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_each_weight_is_the_share_of_the_way_from_before_to_after(share):
    before, after = t5(1).state_dict(), t5(2).state_dict()
    average = average_weights(t5(1), t5(2), share).state_dict()
    for name, weight in average.items():
        expected = (1 - share) * before[name].double() + share * after[name].double()
        torch.testing.assert_close(weight.double(), expected, rtol=0, atol=1e-6)


def test_models_of_other_shapes_and_shares_out_of_bounds_are_refused():
    with pytest.raises(ValueError, match="other weights than each other"):
        average_weights(t5(1), t5(2, layers=2), 0.5)
    with pytest.raises(ValueError, match=r"a share of 1\.5; expected one from 0 to 1"):
        average_weights(t5(1), t5(2), 1.5)


def test_the_average_of_two_checkpoints_is_saved_with_its_tokenizer(tmp_path, capsys):
    before, after, average = str(MODELS / "rag_answers"), str(tmp_path / "after"), str(tmp_path / "average")
    trained = load_generator(before, device="cpu", dtype="float32")
    with torch.no_grad():
        trained.model.get_input_embeddings().weight += 1
    for part in (trained.model, trained.tokenizer):
        part.save_pretrained(after)
    main(["--before", before, "--after", after, "--share", "0.5", "--output", average])
    assert capsys.readouterr().out == f"{average}: 0.5 of {after}, the rest of {before}\n"
    parts = [load_generator(model, device="cpu", dtype="float32") for model in (before, after, average)]
    weights = [part.model.get_input_embeddings().weight for part in parts]
    torch.testing.assert_close(weights[2], (weights[0] + weights[1]) / 2, rtol=0, atol=1e-6)
    assert not torch.equal(weights[0], weights[1])
    assert parts[2].tokenizer("Niamey").input_ids == parts[1].tokenizer("Niamey").input_ids


def test_a_share_out_of_bounds_is_told_with_the_models(tmp_path, capsys):
    model = str(MODELS / "rag_answers")
    with pytest.raises(SystemExit):
        main(["--before", model, "--after", model, "--share", "2", "--output", str(tmp_path / "average")])
    assert f"{model} and {model}: a share of 2.0" in capsys.readouterr().err
    assert not (tmp_path / "average").exists()


def test_the_average_of_two_retrievers_is_one_whose_encoders_belong_together(tmp_path, capsys):
    for name in ("before", "after"):
        write_dpr_question_encoder(tmp_path / name / "question_encoder")
        write_dpr_passage_encoder(tmp_path / name / "passage_encoder")
    trained = DPRContextEncoder.from_pretrained(tmp_path / "after" / "passage_encoder")
    embeddings = trained.ctx_encoder.get_input_embeddings().weight
    with torch.no_grad():
        embeddings += 1
    trained.save_pretrained(tmp_path / "after" / "passage_encoder")
    folders = {name: tmp_path / name for name in ("before", "after", "output")}
    main([f"--{name}={folder}" for name, folder in folders.items()] + ["--share=0.25"])
    assert "0.25 of" in capsys.readouterr().out
    average = DPRContextEncoder.from_pretrained(tmp_path / "output" / "passage_encoder")
    torch.testing.assert_close(
        average.ctx_encoder.get_input_embeddings().weight, embeddings - 0.75, rtol=0, atol=1e-6
    )
    question_encoder = load_question_encoder(str(tmp_path / "output" / "question_encoder"), device="cpu")
    fingerprint = model_fingerprint(tmp_path / "output" / "passage_encoder")
    assert question_encoder.passage_encoder_fingerprint == fingerprint
    assert fingerprint != model_fingerprint(tmp_path / "before" / "passage_encoder")
