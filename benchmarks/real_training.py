"""Training on real text: a retriever, then a generator that reads what it finds, on SQuAD split by article.

    python -m benchmarks.real_training --squad train-v1.1.json.gz --encoder all-MiniLM-L6-v2 --work work
    python -m benchmarks.real_training … --generator examples/models/rag_answers

The encoder is trained on most articles, the weights are chosen by some, and both it and the untrained one
search all passages for the questions of the rest; recall is compared by paired bootstrap. With --generator,
that model is trained on the passages found for a part of the questions, and answers the same rest. Every step
is one of `rag-beam run`, whose file lies in --work: interrupted, the same command goes on.
"""

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.squad import read_squad
from pipelines import run

HELD_OUT = {"held_out": 20, "validation": 12}  # articles of SQuAD's 442
N_DOCS = 20
READ_DOCS = 5


def main() -> None:
    """Splits and runs the steps, which print scores and times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--squad", type=Path, required=True, help="SQuAD's JSON")
    parser.add_argument("--encoder", type=Path, required=True, help="a sentence-transformers folder")
    parser.add_argument(
        "--generator", type=Path, help="the generator to start from; without it none is trained"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--steps", type=int, default=1000, help="of the retriever")
    parser.add_argument("--batch_questions", type=int, default=128, help="of a step of the retriever")
    parser.add_argument("--rag_steps", type=int, default=1500, help="of the generator")
    parser.add_argument(
        "--rag_articles", type=int, default=150, help="whose questions the generator learns from"
    )
    parser.add_argument("--precision", default="float32", help="of the retriever's forward passes")
    parser.add_argument("--seed", type=int, default=0, help="of the split and of the trainings")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    split(options)
    run_file = options.work / "run.yaml"
    run_file.write_text(yaml.safe_dump(job(options), sort_keys=False))
    began = time.perf_counter()
    status = run.main([str(run_file)])
    if status:
        raise SystemExit(status)
    print(f"\n{time.perf_counter() - began:.0f} s")


def split(options: argparse.Namespace) -> None:
    """Writes SQuAD's articles, shuffled, as files of their own: those held out, those to train on, a part of these."""
    content = read_squad(options.squad)
    articles = content["data"]
    random.Random(options.seed).shuffle(articles)
    parts = {}
    for name, count in HELD_OUT.items():
        parts[name], articles = articles[:count], articles[count:]
    parts |= {"train": articles, "part": articles[: options.rag_articles]}
    for name, chosen in parts.items():
        path = options.work / f"{name}.json"
        path.write_text(json.dumps(content | {"data": chosen}), encoding="utf-8")


def job(options: argparse.Namespace) -> dict[str, Any]:
    """All steps, as `rag-beam run` takes them."""
    encoder = str(options.encoder.resolve())
    steps: dict[str, Any] = {
        "passages": {"stage": "chunk", "input": ["train.json", "validation.json", "held_out.json"]},
        **searched("untrained", encoder),
        "retriever": {
            "stage": "train_retriever",
            "questions": ["train.json"],
            "validation": ["validation.json"],
            "encoder": encoder,
            "batch_questions": options.batch_questions,
            "chunk_texts": options.batch_questions * 2,
            "max_tokens": 200,
            "max_steps": options.steps,
            "learning_rate": 3e-5,
            "validate_every": max(1, options.steps // 4),
            "precision": options.precision,
            "seed": options.seed,
        },
        **searched("trained", "retriever/encoder"),
    }
    if options.generator is not None:
        steps |= read(options)
    return {"output": ".", "steps": steps}


def searched(name: str, encoder: str) -> dict[str, Any]:
    """Held-out questions searched for with an encoder; the trained one is compared with the other."""
    retrievals = f"{name}_retrievals"
    scores = {"stage": "evaluate", "predictions": retrievals, "references": "held_out.json"}
    scores["metrics"] = [f"recall@{n_docs}" for n_docs in (1, 5, N_DOCS)]
    if name == "trained":
        scores["baseline"] = "untrained_retrievals"
    return {
        f"{name}_embeddings": {"stage": "encode", "passages": "passages", "encoder": encoder},
        f"{name}_index": {"stage": "index", "embeddings": f"{name}_embeddings", "passages": "passages"},
        retrievals: {
            "stage": "retrieve",
            "index": f"{name}_index",
            "questions": "held_out.json",
            "encoder": encoder,
            "n_docs": N_DOCS,
        },
        f"{name}_scores": scores,
    }


def read(options: argparse.Namespace) -> dict[str, Any]:
    """A generator trained on the passages found, and its answers to the questions held out."""
    steps: dict[str, Any] = {}
    for name in ("part", "validation"):
        steps[f"{name}_retrievals"] = {
            "stage": "retrieve",
            "index": "trained_index",
            "questions": f"{name}.json",
            "encoder": "retriever/encoder",
            "n_docs": READ_DOCS,
        }
    generator = str(options.generator.resolve())
    return steps | {
        "generator": {
            "stage": "train_rag",
            "retrievals": ["part_retrievals"],
            "validation": ["validation_retrievals"],
            "max_validation": 300,
            "model": generator,
            "model_type": "rag_sequence",
            "n_docs": READ_DOCS,
            "batch_questions": 32,
            "chunk_questions": 32,
            "max_input_tokens": 400,
            "max_target_tokens": 24,
            "max_steps": options.rag_steps,
            "learning_rate": 1e-3,
            "validate_every": max(1, options.rag_steps // 5),
            "seed": options.seed,
        },
        "answers": {
            "stage": "generate",
            "retrievals": "trained_retrievals",
            "n_docs": READ_DOCS,
            "model": "generator/model",
            "model_type": "rag_sequence",
            "max_input_tokens": 400,
            "max_new_tokens": 24,
        },
        "answer_scores": {"stage": "evaluate", "predictions": "answers", "references": "held_out.json"},
    }


if __name__ == "__main__":
    main()
