"""Loading: which tokens frame an answer, which checkpoints load, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BartForConditionalGeneration, GenerationConfig, T5ForConditionalGeneration

from rag_core.answers import Answer, DecodingSettings, RetrievedQuestion
from rag_core.context import PassageText
from rag_core.decoding import generate_answers
from rag_core.errors import UsageError
from rag_core.generator import load_generator
from rag_core.model_files import model_fingerprint
from tests.rag_core import oracles
from tests.rag_core.tiny_generators import (
    bart_tokenizer,
    save_rag_checkpoint,
    t5_tokenizer,
    tiny_bart,
    tiny_t5,
)


def save_bart(folder: Path, seed: int = 0) -> BartForConditionalGeneration:
    model = tiny_bart(seed, dtype=torch.float32).model
    model.save_pretrained(folder)
    bart_tokenizer().save_pretrained(folder)
    return model


def edit(path: Path, *, nested: str | None = None, **entries: object) -> None:
    """Sets entries of a JSON file, or of an object in it; None removes one."""
    content = json.loads(path.read_text()) if path.exists() else {}
    target = content if nested is None else content[nested]
    for name, value in entries.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = value
    path.write_text(json.dumps(content))


def test_bart_is_loaded_with_its_start_token_alone(tmp_path: Path) -> None:
    model = save_bart(tmp_path)
    generator = load_generator(str(tmp_path), device="cpu")
    assert generator.prompt == (2,)
    assert generator.end_token == 2
    assert generator.model.dtype == torch.float32
    assert generator.fingerprint == model_fingerprint(tmp_path)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(generator.model.state_dict()[name], weight, atol=0, rtol=0)


def test_t5_starts_with_its_padding_token(tmp_path: Path) -> None:
    tiny_t5(dtype=torch.float32).model.save_pretrained(tmp_path)
    t5_tokenizer().save_pretrained(tmp_path)
    generator = load_generator(str(tmp_path), device="cpu")
    assert isinstance(generator.model, T5ForConditionalGeneration)
    assert generator.prompt == (0,)
    assert generator.end_token == 1
    assert generator.max_positions is None


@pytest.mark.parametrize(
    ("generation", "top", "nested", "prompt"),
    [
        ({}, {}, {}, (2,)),
        ({"forced_bos_token_id": 7}, {"forced_bos_token_id": 8}, {"forced_bos_token_id": 9}, (2, 7)),
        ({}, {"forced_bos_token_id": 8}, {"forced_bos_token_id": 9}, (2, 8)),
        ({}, {}, {"forced_bos_token_id": 9}, (2, 9)),
        ({}, {}, {"forced_bos_token_id": 0}, (2, 0)),
        ({"decoder_start_token_id": 5}, {"decoder_start_token_id": 6}, {"forced_bos_token_id": 0}, (5, 0)),
    ],
)
def test_forced_first_token_of_a_rag_checkpoint(
    tmp_path: Path, generation: dict, top: dict, nested: dict, prompt: tuple[int, ...]
) -> None:
    save_rag_checkpoint(tmp_path)
    (tmp_path / "generation_config.json").unlink(missing_ok=True)
    if generation:
        edit(tmp_path / "generation_config.json", **generation)
    edit(tmp_path / "config.json", **top)
    edit(tmp_path / "config.json", nested="generator", **nested)
    assert load_generator(str(tmp_path), device="cpu").prompt == prompt


def test_plain_bart_with_a_forced_first_token_in_its_generation_config(tmp_path: Path) -> None:
    model = save_bart(tmp_path)
    assert isinstance(model.generation_config, GenerationConfig)
    edit(tmp_path / "generation_config.json", forced_bos_token_id=0)
    assert load_generator(str(tmp_path), device="cpu").prompt == (2, 0)


@pytest.mark.parametrize("kind", ["rag_sequence", "rag_token"])
def test_a_rag_checkpoint_gives_its_generator(tmp_path: Path, kind: str) -> None:
    model = save_rag_checkpoint(tmp_path, seed=3, kind=kind)
    edit(tmp_path / "config.json", title_sep=" | ", doc_sep=" ? ")
    edit(tmp_path / "config.json", nested="generator", prefix="q: ")
    generator = load_generator(str(tmp_path), device="cpu", max_input_tokens=50)
    for name, weight in model.generator.state_dict().items():
        torch.testing.assert_close(generator.model.state_dict()[name], weight, atol=0, rtol=0)
    (context,) = generator.contexts("Who ?", [PassageText("Gold", "element")])
    assert generator.decode(context) == "q: Gold | element ? Who ?"
    question = RetrievedQuestion("Who ?", (PassageText("Gold", "element"),), np.ones(1, np.float32))
    settings = DecodingSettings("rag_token", "beam", num_beams=2, max_new_tokens=4)
    (answer,) = generate_answers(generator, [question], settings)
    assert isinstance(answer, Answer)
    assert answer.answer == generator.decode(oracles.rag_token_transformers(generator, question, 2, 4)[0])


def test_generation_settings_of_the_checkpoint_do_not_apply(tmp_path: Path) -> None:
    save_bart(tmp_path, seed=4)
    (question,) = oracles.random_questions(4, [2])
    settings = DecodingSettings("rag_sequence", "thorough", num_beams=2, max_new_tokens=5, num_candidates=9)
    (plain,) = generate_answers(load_generator(str(tmp_path), device="cpu"), [question], settings)
    edit(
        tmp_path / "generation_config.json",
        num_beams=7,
        length_penalty=2.0,
        no_repeat_ngram_size=1,
        min_length=5,
        max_length=6,
        repetition_penalty=3.0,
        forced_eos_token_id=2,
        bad_words_ids=[[5], [6]],
        early_stopping=True,
    )
    (edited,) = generate_answers(load_generator(str(tmp_path), device="cpu"), [question], settings)
    assert isinstance(plain, Answer)
    assert isinstance(edited, Answer)
    assert edited.candidates == plain.candidates


def test_dtype(tmp_path: Path) -> None:
    save_bart(tmp_path)
    assert load_generator(str(tmp_path), device="cpu", dtype="bfloat16").model.dtype == torch.bfloat16


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such model folder"):
        load_generator(str(tmp_path / "nowhere"))
    save_bart(tmp_path / "several_ends")
    edit(tmp_path / "several_ends" / "generation_config.json", eos_token_id=[2, 3])
    with pytest.raises(UsageError, match="a single token is expected"):
        load_generator(str(tmp_path / "several_ends"), device="cpu")
    save_bart(tmp_path / "other")
    edit(tmp_path / "other" / "config.json", model_type="bert")
    with pytest.raises(UsageError, match="model_type bert"):
        load_generator(str(tmp_path / "other"), device="cpu")
    save_bart(tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(UsageError, match="allow_pickle"):
        load_generator(str(tmp_path / "pickled"), device="cpu")
    save_bart(tmp_path / "no_tokenizer")
    for path in (tmp_path / "no_tokenizer").glob("tokenizer*"):
        path.unlink()
    with pytest.raises(UsageError, match="no_tokenizer"):
        load_generator(str(tmp_path / "no_tokenizer"), device="cpu")
    save_bart(tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read as JSON"):
        load_generator(str(tmp_path / "broken"), device="cpu")
