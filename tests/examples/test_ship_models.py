"""What is shipped is half as large and belongs together as what was trained."""

import json
import shutil

import torch
import yaml
from safetensors.torch import load_file
from transformers import DPRContextEncoder

from examples.ship_models import MODELS, RAG_CHECKPOINTS, ship
from examples.trained_models import trained_folder
from rag_core.model_files import model_fingerprint


def test_weights_are_rounded_and_question_encoders_still_name_the_passage_encoder(tmp_path):
    recipe = yaml.safe_load((MODELS.parent / "train.yaml").read_text(encoding="utf-8"))["steps"]
    trained = trained_folder(recipe["embeddings"]["encoder"], tmp_path / "train")
    torch.manual_seed(0)
    encoder = DPRContextEncoder.from_pretrained(MODELS / "passage_encoder", dtype=torch.float32)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 1e-3 * torch.randn_like(parameter)
    encoder.save_pretrained(trained)
    was = model_fingerprint(MODELS / "passage_encoder")
    for name in RAG_CHECKPOINTS:
        folder = tmp_path / "train" / name / "model"
        shutil.copytree(MODELS / name, folder)
        config = (folder / "config.json").read_text(encoding="utf-8")
        (folder / "config.json").write_text(config.replace(was, model_fingerprint(trained)))

    shipped = tmp_path / "shipped"
    ship(tmp_path / "train", shipped)

    weights = load_file(shipped / "passage_encoder" / "model.safetensors")
    assert {weight.dtype for weight in weights.values() if weight.is_floating_point()} == {torch.float16}
    for name, weight in load_file(trained / "model.safetensors").items():
        torch.testing.assert_close(weights[name].float(), weight, rtol=1e-3, atol=1e-6)
    for name in RAG_CHECKPOINTS:
        config = json.loads((shipped / name / "config.json").read_text(encoding="utf-8"))
        belongs_to = config["passage_encoder_fingerprint"]
        assert belongs_to == config["question_encoder"]["passage_encoder_fingerprint"]
        assert belongs_to == model_fingerprint(shipped / "passage_encoder") != was
