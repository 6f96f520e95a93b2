"""The ablations as runs: what is trained, on what, and with how many documents it answers.

Trained and answered is as in train.yaml and run.yaml but for what is compared.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from examples.scores import read_rows, read_scores
from rag_core.metrics.answers import exact_match
from rag_core.metrics.bootstrap import Floats

MODEL_TYPES = {"rag_token": "RAG-Token", "rag_sequence": "RAG-Sequence"}
VARIANTS = {
    "closed": "closed book",
    "bm25": "BM25",
    "frozen": "frozen retriever",
    "trained": "trained end to end",
}
N_DOCS = (1, 2, 5, 10, 20, 50)
COMPARED = ("frozen", "trained")  # with every seed

_HERE = Path(__file__).parent
_TRAINING, _SAMPLE = (
    yaml.safe_load((_HERE / name).read_text(encoding="utf-8"))["steps"] for name in ("train.yaml", "run.yaml")
)
_ANSWERS = {"rag_token": "answers_token", "rag_sequence": "answers_sequence"}
TRAINED_N_DOCS: int = _TRAINING["rag_sequence"]["n_docs"]


@dataclass(frozen=True)
class Ablations:
    """Where everything is.

    Attributes:
      train: what `rag-beam run examples/train.yaml` wrote: retriever, reader, index of practice passages.
      practice: practice worlds that the index was made from.
      steps: of each training.
      seed: of each training.
      variants: those of `VARIANTS` that are tried.
      n_docs: with how many documents.
      questions: of the sample, that are answered.
    """

    train: Path
    practice: Path
    output: Path
    steps: int
    seed: int
    variants: Sequence[str] = tuple(VARIANTS)
    n_docs: Sequence[int] = N_DOCS
    questions: Path = _HERE / "world" / "questions.jsonl"

    def run_file(self) -> dict[str, Any]:
        """All steps, as `rag-beam run` takes them."""
        return {
            "output": str(self.output),
            "options": {"num_threads": 1},
            "steps": dict([*self._sample(), *self._trainings(), *self._answers()]),
        }

    def _sample(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The sample's index, and BM25's documents of practice and of sample questions."""
        world = _HERE / "world"
        corpus = [str(world / "corpus" / "*.jsonl"), str(world / "leaders_2024.jsonl")]
        encoder = str(self.train / _TRAINING["embeddings"]["encoder"])
        yield "passages", {"stage": "chunk", "input": corpus}
        yield "embeddings", {"stage": "encode", "passages": "passages", "encoder": encoder}
        yield "index", {"stage": "index", "embeddings": "embeddings", "passages": "passages"}
        held = str(self.train / _TRAINING["rag_sequence"]["index"])
        if "bm25" in self.variants:
            yield "bm25_practice", _by_words(held, self._practice("questions"), TRAINED_N_DOCS)
            yield "bm25_held_out", _by_words(held, self._practice("validation_questions"), TRAINED_N_DOCS)
        if {"closed", "bm25"}.intersection(self.variants):  # closed book takes the questions from there
            yield "bm25_sample", _by_words("index", str(self.questions), max(self.n_docs))

    def _practice(self, name: str) -> str:
        return str(self.practice / name / "*.jsonl")

    def _trainings(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """From the recipe's reader and retriever, and with its options."""
        asked = {
            "questions": [self._practice("questions")],
            "validation": [self._practice("validation_questions")],
        }
        for model_type in MODEL_TYPES:
            recipe = _TRAINING[model_type]
            searched = asked | {
                "index": str(self.train / recipe["index"]),
                "question_encoder": str(self.train / recipe["question_encoder"]),
            }
            of_variant = {
                "closed": asked | {"n_docs": 0, "abstention": 0.0},
                "bm25": {"retrievals": ["bm25_practice"], "validation": ["bm25_held_out"]},
                "frozen": searched | {"freeze_retriever": True},
                "trained": searched,
            }
            of_all = {name: value for name, value in recipe.items() if name not in searched} | {
                "model": str(self.train / recipe["model"]),
                "max_steps": self.steps,
                "validate_every": self.steps,
                "seed": self.seed,
            }
            for variant in self.variants:
                yield f"{variant}_{model_type}", of_all | of_variant[variant]

    def _answers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Retrievals of the sample's questions, answers with so many of them, scores."""
        questions = str(self.questions)
        for model_type in MODEL_TYPES:
            for variant in self.variants:
                model = f"{variant}_{model_type}/model"
                retrievals = "bm25_sample"
                if variant in ("frozen", "trained"):
                    retrievals = f"{variant}_{model_type}_retrievals"
                    yield (
                        retrievals,
                        {
                            "stage": "retrieve",
                            "index": "index",
                            "questions": questions,
                            "encoder": model,
                            "n_docs": max(self.n_docs),
                        },
                    )
                if variant != "closed":
                    yield (
                        f"{variant}_{model_type}_recall",
                        {
                            "stage": "evaluate",
                            "predictions": retrievals,
                            "references": questions,
                            "metrics": [f"recall@{n_docs}" for n_docs in self.n_docs],
                        },
                    )
                for n_docs in self.documents_of(variant):
                    name = f"{variant}_{model_type}_{n_docs}"
                    yield (
                        f"{name}_answers",
                        _SAMPLE[_ANSWERS[model_type]]
                        | {"retrievals": retrievals, "model": model, "n_docs": n_docs},
                    )
                    yield (
                        f"{name}_scores",
                        {"stage": "evaluate", "predictions": f"{name}_answers", "references": questions},
                    )

    def results(self) -> list["Result"]:
        """One for each variant, model type and number of documents, from the scores."""
        return [
            Result(
                VARIANTS[variant],
                MODEL_TYPES[model_type],
                n_docs,
                read_scores(self.output / f"{variant}_{model_type}_{n_docs}_scores")["exact_match"],
                read_scores(self.output / f"{variant}_{model_type}_recall")[f"recall@{n_docs}"]
                if n_docs
                else None,
            )
            for model_type in MODEL_TYPES
            for variant in self.variants
            for n_docs in self.documents_of(variant)
        ]

    def documents_of(self, variant: str) -> Sequence[int]:
        """With how many documents a variant is tried."""
        return (0,) if variant == "closed" else self.n_docs

    def right(self, variant: str, model_type: str) -> Floats:
        """1.0 or 0.0 for each of the sample's questions: answered exactly, with as many documents as in training."""
        folder = self.output / f"{variant}_{model_type}_{TRAINED_N_DOCS}_answers"
        answers = {row["question_id"]: row["answer"] for row in read_rows(folder)}
        with self.questions.open(encoding="utf-8") as file:
            asked = [json.loads(line) for line in file]
        return np.array(
            [exact_match(answers[row["question_id"]], row["answers"]) for row in asked], np.float64
        )


def _by_words(index: str, questions: str, n_docs: int) -> dict[str, Any]:
    return {
        "stage": "retrieve",
        "retriever": "bm25",
        "index": index,
        "questions": questions,
        "n_docs": n_docs,
    }


@dataclass(frozen=True)
class Result:
    """How well a model answers with so many documents; recall is None closed book."""

    variant: str
    model_type: str
    n_docs: int
    exact_match: float
    recall: float | None
