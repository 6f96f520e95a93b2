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
from examples.trained_models import trained_folder
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
TRAINED_N_DOCS: int = _TRAINING["rag_answers"]["n_docs"]


@dataclass(frozen=True)
class Ablations:
    """Where everything is, and what is tried.

    Attributes:
      train: what `rag-beam run examples/train.yaml` wrote: the index of practice passages. The retriever and the
        reader to start from are beside it, where train.sh puts averages.
      practice: practice worlds that the index was made from.
      steps: of each training.
      retriever: folder with a `question_encoder` and a `passage_encoder` to search with; None: the recipe's.
      seeds: of the trainings; all is tried with the first, what is compared with each.
      model_types: those of `MODEL_TYPES` that are tried.
      variants: those of `VARIANTS` that are tried.
      n_docs: with how many documents.
      questions: of the sample, that are answered.
    """

    train: Path
    practice: Path
    output: Path
    steps: int
    retriever: Path | None = None
    seeds: Sequence[int] = (0, 1, 2)
    model_types: Sequence[str] = tuple(MODEL_TYPES)
    variants: Sequence[str] = tuple(VARIANTS)
    n_docs: Sequence[int] = N_DOCS
    questions: Path = _HERE / "world" / "questions.jsonl"

    def run_file(self) -> dict[str, Any]:
        """All steps, as `rag-beam run` takes them."""
        steps = dict([*self._sample(), *self._searched_in_training()])
        for trial in self.trials():
            steps |= dict([self._training(trial), *self._answers(trial)])
        return {"output": str(self.output), "options": {"num_threads": 1}, "steps": steps}

    @property
    def compares(self) -> bool:
        """Whether both of `COMPARED` are tried, so that it can be told what training gains."""
        return set(COMPARED) <= set(self.variants)

    def trials(self) -> Iterator["Trial"]:
        """What is trained, and with how many documents it answers."""
        first, *further = self.seeds
        for model_type in self.model_types:
            for variant in self.variants:
                yield Trial(variant, model_type, first, (0,) if variant == "closed" else self.n_docs)
        for seed in further if self.compares else ():
            for model_type in self.model_types:
                for variant in COMPARED:
                    yield Trial(variant, model_type, seed, (TRAINED_N_DOCS,))

    def _sample(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The sample's index, and what BM25 finds there."""
        world = _HERE / "world"
        corpus = [str(world / "corpus" / "*.jsonl"), str(world / "leaders_2024.jsonl")]
        yield "passages", {"stage": "chunk", "input": corpus}
        yield from self._index("", "passages")
        if {"closed", "bm25"}.intersection(self.variants):  # closed book takes the questions from there
            yield "bm25_sample", _by_words("index", str(self.questions), max(self.n_docs))

    def _searched_in_training(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The index of another retriever than the recipe's, and what BM25 finds among practice passages."""
        if self.retriever is not None:
            yield from self._index("practice_", str(self.train / _TRAINING["embeddings"]["passages"]))
        if "bm25" in self.variants:
            yield (
                "bm25_practice",
                _by_words(self._practice_index, self._practice("questions"), TRAINED_N_DOCS),
            )
            asked = self._practice("validation_questions")
            yield "bm25_held_out", _by_words(self._practice_index, asked, TRAINED_N_DOCS)

    def _index(self, prefix: str, passages: str) -> Iterator[tuple[str, dict[str, Any]]]:
        yield (
            f"{prefix}embeddings",
            {"stage": "encode", "passages": passages, "encoder": self._encoder("passage_encoder")},
        )
        yield (
            f"{prefix}index",
            {"stage": "index", "embeddings": f"{prefix}embeddings", "passages": passages},
        )

    @property
    def _practice_index(self) -> str:
        if self.retriever is not None:
            return "practice_index"
        return str(self.train / _TRAINING["rag_answers"]["index"])

    def _encoder(self, name: str) -> str:
        """The `question_encoder` or the `passage_encoder` to start from."""
        of_recipe = trained_folder(_TRAINING["embeddings"]["encoder"], self.train).parent
        return str((self.retriever or of_recipe) / name)

    def _practice(self, name: str) -> str:
        return str(self.practice / name / "*.jsonl")

    def _training(self, trial: "Trial") -> tuple[str, dict[str, Any]]:
        """From the recipe's reader, and with its options."""
        recipe = _TRAINING["rag_answers"] | {"model_type": trial.model_type}
        asked = {
            "questions": [self._practice("questions")],
            "validation": [self._practice("validation_questions")],
        }
        searched = asked | {
            "index": self._practice_index,
            "question_encoder": self._encoder("question_encoder"),
        }
        of_variant = {
            "closed": asked | {"n_docs": 0, "abstention": 0.0},
            "bm25": {"retrievals": ["bm25_practice"], "validation": ["bm25_held_out"]},
            "frozen": searched | {"freeze_retriever": True},
            "trained": searched,
        }
        of_all = {name: value for name, value in recipe.items() if name not in searched} | {
            "model": str(trained_folder(recipe["model"], self.train)),
            "best_by": "loss",  # finer than how many of few hundred answers are right
            "max_steps": self.steps,
            "validate_every": self.steps,
            "seed": trial.seed,
        }
        return trial.name, of_all | of_variant[trial.variant]

    def _answers(self, trial: "Trial") -> Iterator[tuple[str, dict[str, Any]]]:
        """Retrievals of the sample's questions, answers with so many of them, scores."""
        questions, model = str(self.questions), f"{trial.name}/model"
        retrievals = "bm25_sample"
        if trial.variant in COMPARED:
            retrievals = f"{trial.name}_retrievals"
            yield (
                retrievals,
                {
                    "stage": "retrieve",
                    "index": "index",
                    "questions": questions,
                    "encoder": model,
                    "n_docs": max(trial.n_docs),
                },
            )
        if trial.variant != "closed":
            yield (
                f"{trial.name}_recall",
                {
                    "stage": "evaluate",
                    "predictions": retrievals,
                    "references": questions,
                    "metrics": [f"recall@{n_docs}" for n_docs in trial.n_docs],
                },
            )
        for n_docs in trial.n_docs:
            name = f"{trial.name}_{n_docs}"
            yield (
                f"{name}_answers",
                _SAMPLE[_ANSWERS[trial.model_type]]
                | {"retrievals": retrievals, "model": model, "n_docs": n_docs},
            )
            yield (
                f"{name}_scores",
                {"stage": "evaluate", "predictions": f"{name}_answers", "references": questions},
            )

    def results(self) -> list["Result"]:
        """One for each trial with the first seed and number of documents, from the scores."""
        return [
            Result(
                VARIANTS[trial.variant],
                MODEL_TYPES[trial.model_type],
                n_docs,
                read_scores(self.output / f"{trial.name}_{n_docs}_scores")["exact_match"],
                read_scores(self.output / f"{trial.name}_recall")[f"recall@{n_docs}"] if n_docs else None,
            )
            for trial in self.trials()
            if trial.seed == self.seeds[0]
            for n_docs in trial.n_docs
        ]

    def right(self, variant: str, model_type: str) -> Floats:
        """How often each of the sample's questions is answered exactly, with as many documents as in training.

        Returns:
          Its mean over the seeds.
        """
        with self.questions.open(encoding="utf-8") as file:
            asked = [json.loads(line) for line in file]
        of_seeds = []
        for trial in self.trials():
            if (trial.variant, trial.model_type) != (variant, model_type):
                continue
            rows = read_rows(self.output / f"{trial.name}_{TRAINED_N_DOCS}_answers")
            answers = {row["question_id"]: row["answer"] for row in rows}
            of_seeds.append([exact_match(answers[row["question_id"]], row["answers"]) for row in asked])
        return np.mean(np.array(of_seeds, np.float64), axis=0)


@dataclass(frozen=True)
class Trial:
    """What is trained, of which model type, with which seed, and with how many documents it answers."""

    variant: str
    model_type: str
    seed: int
    n_docs: Sequence[int]

    @property
    def name(self) -> str:
        """Of the step that trains it."""
        return f"{self.variant}_{self.model_type}_seed_{self.seed}"


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
