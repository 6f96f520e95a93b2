"""The trained models of the sample: whole, small, and belonging together."""

import json
from pathlib import Path

import pytest
from transformers import RagSequenceForGeneration, RagTokenForGeneration

import examples
from rag_core.encoders import load_passage_encoder
from rag_core.model_files import model_fingerprint

MODELS = Path(examples.__file__).parent / "models"
RAG = {"rag_answers": 4e6, "rag_labels": 6e6}  # weights of the generator at most


@pytest.mark.parametrize("model_class", [RagSequenceForGeneration, RagTokenForGeneration])
@pytest.mark.parametrize("name", RAG)
def test_transformers_loads_every_weight(name, model_class):
    model, report = model_class.from_pretrained(MODELS / name, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert 1e6 < sum(parameter.numel() for parameter in model.generator.parameters()) < RAG[name]


@pytest.mark.parametrize("name", RAG)
def test_question_encoders_belong_to_the_passage_encoder(name):
    config = json.loads((MODELS / name / "config.json").read_text())
    assert config["passage_encoder_fingerprint"] == model_fingerprint(MODELS / "passage_encoder")
    assert config["retrieval_vector_size"] == load_passage_encoder(str(MODELS / "passage_encoder")).dimension


def test_they_are_small_and_hold_no_pickle():
    files = [path for path in MODELS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 30e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md"}


def test_the_card_tells_how_they_were_made():
    card = (MODELS / "README.md").read_text()
    assert "examples/train.sh" in card
    for name in (*RAG, "passage_encoder"):
        assert f"`{name}`" in card
