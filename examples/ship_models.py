"""Copies what training made to examples/models: weights rounded to float16, half the size.

Run `python -m examples.ship_models --train out/train`.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from examples.trained_models import trained_folder
from rag_core.model_files import model_fingerprint

MODELS = Path(__file__).parent / "models"
_RECIPE = Path(__file__).parent / "train.yaml"
PASSAGES = "passage_encoder"
RAG_CHECKPOINTS = ("rag_answers", "rag_labels")


def ship(train: Path, models: Path = MODELS) -> None:
    """Replaces the models there.

    Args:
      train: what `rag-beam run examples/train.yaml` wrote.
    """
    steps = yaml.safe_load(_RECIPE.read_text(encoding="utf-8"))["steps"]
    sources = {PASSAGES: trained_folder(steps["embeddings"]["encoder"], train)}
    sources |= {name: train / name / "model" for name in RAG_CHECKPOINTS}
    for name, source in sources.items():
        shutil.rmtree(models / name, ignore_errors=True)
        shutil.copytree(source, models / name)
        halve(models / name / "model.safetensors")
    trained, shipped = (model_fingerprint(path) for path in (sources[PASSAGES], models / PASSAGES))
    for name in RAG_CHECKPOINTS:  # question encoders name the passage encoder by its content
        config = models / name / "config.json"
        config.write_text(config.read_text(encoding="utf-8").replace(trained, shipped), encoding="utf-8")


def halve(weights: Path) -> None:
    """Rounds the weights in a file to float16; a stage on a CPU loads them as float32."""
    with safe_open(weights, framework="pt") as file:
        metadata = file.metadata()
        rounded = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    rounded = {name: t.half() if t.is_floating_point() else t for name, t in rounded.items()}
    save_file(rounded, weights, metadata=metadata)


def main(argv: Sequence[str] | None = None) -> None:
    """Copies the models and says how large they are together."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.ship_models", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--train", type=Path, required=True, help="output of rag-beam run examples/train.yaml"
    )
    options = parser.parse_args(argv)
    ship(options.train)
    size = sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file())
    print(f"{MODELS}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
