"""The models that training starts from load in transformers, and their weights are drawn as intended."""

import json

import pytest
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DPRContextEncoder,
    DPRQuestionEncoder,
    T5Config,
    T5ForConditionalGeneration,
)

from examples.compose import write_world
from examples.make_models import ENCODER_WIDTH, main, read_texts
from examples.start_weights import draw_generator

FOLDERS = {
    "question_encoder": "DPRQuestionEncoder",
    "passage_encoder": "DPRContextEncoder",
    "generator": "T5ForConditionalGeneration",
}


@pytest.fixture(scope="module")
def folders(world, tmp_path_factory):
    """Made twice, from the sample's texts in place of practice text: tokenizers learn from any."""
    root = tmp_path_factory.mktemp("start")
    write_world(world, root / "practice")
    for output in ("models", "again"):
        main(["--practice", str(root / "practice"), "--output", str(root / output)])
    return root


@pytest.fixture(scope="module")
def models(folders):
    return folders / "models"


def test_the_same_text_and_seed_give_the_same_files(folders):
    files = sorted(
        path.relative_to(folders / "models") for path in (folders / "models").rglob("*") if path.is_file()
    )
    assert len(files) >= 12
    for file in files:
        assert (folders / "models" / file).read_bytes() == (folders / "again" / file).read_bytes(), file


@pytest.mark.parametrize(("name", "architecture"), FOLDERS.items())
def test_weights_are_safetensors_and_configs_name_their_class(models, name, architecture):
    assert (models / name / "model.safetensors").is_file()
    assert not list((models / name).glob("*.bin"))
    assert json.loads((models / name / "config.json").read_text())["architectures"] == [architecture]


def test_untrained_encoders_already_compare_words(models):
    """A passage scores higher for the question about its own place than for one about another."""
    questions = DPRQuestionEncoder.from_pretrained(models / "question_encoder").eval()
    passages = DPRContextEncoder.from_pretrained(models / "passage_encoder").eval()
    tokenizer = AutoTokenizer.from_pretrained(models / "passage_encoder")
    places = ["Mongolia", "Uruguay", "Kazakhstan", "Portugal"]
    with torch.no_grad():
        asked = questions(
            **tokenizer(
                [f"What is the capital of {place}?" for place in places], return_tensors="pt", padding=True
            )
        ).pooler_output
        read = passages(
            **tokenizer(
                places,
                [f"The capital of {place} is a city." for place in places],
                return_tensors="pt",
                padding=True,
            )
        ).pooler_output
    assert asked.shape == (4, ENCODER_WIDTH)
    assert (asked @ read.T).argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_an_untrained_generator_attends_to_what_follows_the_word_written_last(models):
    """Cross-attention of the first layer, after a token of the text, is on the token that came next there.

    At most places, since the sketches of two tokens may happen to be alike.
    """
    model = AutoModelForSeq2SeqLM.from_pretrained(models / "generator", attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(models / "generator")
    tokens = list(dict.fromkeys(tokenizer("Ulaanbaatar is where the Tuul flows").input_ids[:-1]))
    with torch.no_grad():
        attention = model(
            input_ids=torch.tensor([tokens]),
            decoder_input_ids=torch.tensor([[0, *tokens[:-1]]]),
            output_attentions=True,
        ).cross_attentions[0][0]  # [heads, written, read]
    attended = attention.mean(dim=0).argmax(dim=1)[1:].tolist()
    expected = list(range(1, len(tokens)))
    right = sum(place == next_one for place, next_one in zip(attended, expected, strict=True))
    assert right / len(expected) > 0.5  # by chance a fifteenth


def test_a_word_has_the_same_tokens_wherever_it_stands(models):
    """Or an answer could not be copied from the middle of a passage."""
    tokenizer = AutoTokenizer.from_pretrained(models / "generator")
    alone = tokenizer("Ulaanbaatar").input_ids[:-1]
    within = tokenizer("The capital is Ulaanbaatar.").input_ids
    assert any(within[start : start + len(alone)] == alone for start in range(len(within)))
    assert tokenizer.decode(tokenizer("São Tomé").input_ids, skip_special_tokens=True).strip() == "São Tomé"


def test_too_few_heads_are_refused():
    config = T5Config(vocab_size=8, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=4)
    with pytest.raises(ValueError, match="4 heads; expected at least 6"):
        draw_generator(T5ForConditionalGeneration(config))


def test_a_folder_without_practice_text_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"holds no practice text; run python -m examples\.practice"):
        read_texts(tmp_path)
