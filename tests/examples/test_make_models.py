"""The random models load in transformers and belong together."""

import json

import pytest
import torch
from transformers import (
    AutoTokenizer,
    DPRContextEncoder,
    DPRQuestionEncoder,
    RagSequenceForGeneration,
    RagTokenForGeneration,
    RagTokenizer,
)

from examples.compose import write_world
from examples.make_models import HIDDEN, main, read_texts

FOLDERS = ("question_encoder", "passage_encoder", "rag_sequence", "rag_token")
RAG = [("rag_sequence", RagSequenceForGeneration), ("rag_token", RagTokenForGeneration)]


@pytest.fixture(scope="module")
def folders(world, tmp_path_factory):
    root = tmp_path_factory.mktemp("sample")
    write_world(world, root / "world")
    for output in ("models", "again"):
        main(["--world", str(root / "world"), "--output", str(root / output)])
    return root


@pytest.fixture(scope="module")
def models(folders):
    return folders / "models"


def test_the_same_world_gives_the_same_files(folders):
    files = sorted(
        path.relative_to(folders / "models") for path in (folders / "models").rglob("*") if path.is_file()
    )
    assert len(files) > 15
    for file in files:
        assert (folders / "models" / file).read_bytes() == (folders / "again" / file).read_bytes(), file


@pytest.mark.parametrize("name", FOLDERS)
def test_cards_say_that_the_weights_are_random(models, name):
    card = (models / name / "README.md").read_text()
    assert card.startswith(f"# {name}: random weights")
    assert "noise until it is trained" in card and "python -m examples.make_models" in card


@pytest.mark.parametrize("name", FOLDERS)
def test_weights_are_safetensors_and_configs_name_their_class(models, name):
    assert (models / name / "model.safetensors").is_file()
    assert not list((models / name).glob("*.bin"))
    config = json.loads((models / name / "config.json").read_text())
    expected = {
        "question_encoder": ["DPRQuestionEncoder"],
        "passage_encoder": ["DPRContextEncoder"],
        "rag_sequence": ["RagSequenceForGeneration"],
        "rag_token": ["RagTokenForGeneration"],
    }
    assert config["architectures"] == expected[name]


@pytest.mark.parametrize(("name", "model_class"), RAG)
def test_rag_checkpoints_load_whole_and_hold_the_question_encoder(models, name, model_class):
    model, info = model_class.from_pretrained(models / name, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = RagTokenizer.from_pretrained(models / name)
    encoder = DPRQuestionEncoder.from_pretrained(models / "question_encoder")
    batch = tokenizer.question_encoder(
        ["What is the capital of Niger?", "Who is it?"], return_tensors="pt", padding=True
    )
    with torch.no_grad():
        vectors = encoder.eval()(**batch).pooler_output
        inside = model.eval().question_encoder(**batch)[0]
    assert vectors.shape == (2, HIDDEN)
    torch.testing.assert_close(inside, vectors, rtol=0, atol=0)
    assert not torch.equal(vectors[0], vectors[1])


def test_the_two_rag_checkpoints_have_one_generator(models):
    sequence, token = (model_class.from_pretrained(models / name) for name, model_class in RAG)
    states = [model.rag.generator.state_dict() for model in (sequence, token)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_rag_token_generates(models):
    model = RagTokenForGeneration.from_pretrained(models / "rag_token").eval()
    tokenizer = RagTokenizer.from_pretrained(models / "rag_token").generator
    contexts = tokenizer(["Niger / The capital is Niamey. // What is the capital?"] * 2, return_tensors="pt")
    generated = model.generate(
        context_input_ids=contexts.input_ids,
        context_attention_mask=contexts.attention_mask,
        doc_scores=torch.tensor([[1.0, 0.5]]),
        n_docs=2,
        max_length=8,
        num_beams=1,
    )
    assert generated.shape[0] == 1 and 1 < generated.shape[1] <= 8
    assert int(generated.max()) < len(tokenizer)


def test_passage_encoder_takes_title_and_text_as_a_pair(models):
    tokenizer = AutoTokenizer.from_pretrained(models / "passage_encoder")
    encoder = DPRContextEncoder.from_pretrained(models / "passage_encoder").eval()
    batch = tokenizer("Niger", "The capital is Niamey.", return_tensors="pt")
    tokens = tokenizer.convert_ids_to_tokens(batch.input_ids[0])
    assert tokens[0] == "[CLS]" and tokens.count("[SEP]") == 2 and tokens[-1] == "[SEP]"
    assert batch.token_type_ids[0].tolist() == sorted(batch.token_type_ids[0].tolist())
    assert encoder(**batch).pooler_output.shape == (1, HIDDEN)


def test_tokenizers_know_the_sample(models, world):
    tokenizer = RagTokenizer.from_pretrained(models / "rag_token")
    for row in world["questions.jsonl"]:
        answer = row["answers"][0]
        ids = tokenizer.generator(answer).input_ids
        assert (ids[0], ids[-1]) == (0, 2)  # <s> and </s>, where BartConfig expects them
        assert tokenizer.generator.decode(ids, skip_special_tokens=True) == answer
        assert "[UNK]" not in tokenizer.question_encoder.tokenize(row["question"])


def test_a_folder_without_a_world_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"no \.jsonl files; run python -m examples\.compose"):
        read_texts(tmp_path)
