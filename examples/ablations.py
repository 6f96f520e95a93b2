"""The paper's ablations on the sample: what retrieval and its training are worth (table 6 and figure 3).

Run `python -m examples.ablations --train out/train --practice out/practice_rag`. From one generator that can
read, it trains both model types closed book, on BM25's documents, on those of a retriever that stays as it is,
and end to end; then it answers the sample's questions with 1 to 50 documents. It goes on where it ended.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from examples.scores import read_scores
from pipelines import run

MODEL_TYPES = {"rag_token": "RAG-Token", "rag_sequence": "RAG-Sequence"}
VARIANTS = {
    "closed": "closed book",
    "bm25": "BM25",
    "frozen": "frozen retriever",
    "trained": "trained end to end",
}
N_DOCS = (1, 2, 5, 10, 20, 50)
TRAINED_N_DOCS = 5
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Ablations:
    """Where everything is.

    Attributes:
      train: what `rag-beam run examples/train.yaml` wrote: retriever, reader, index of practice passages.
      practice: practice worlds that the index was made from.
      steps: of each training.
      seed: of each training.
    """

    train: Path
    practice: Path
    output: Path
    steps: int
    seed: int

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
        encoder = str(self.train / "retriever" / "passage_encoder")
        yield "passages", {"stage": "chunk", "input": corpus}
        yield "embeddings", {"stage": "encode", "passages": "passages", "encoder": encoder}
        yield "index", {"stage": "index", "embeddings": "embeddings", "passages": "passages"}
        for name, index, questions, n_docs in (
            ("bm25_practice", str(self.train / "index"), self._practice("questions"), TRAINED_N_DOCS),
            (
                "bm25_held_out",
                str(self.train / "index"),
                self._practice("validation_questions"),
                TRAINED_N_DOCS,
            ),
            ("bm25_sample", "index", str(world / "questions.jsonl"), max(N_DOCS)),
        ):
            yield (
                name,
                {
                    "stage": "retrieve",
                    "retriever": "bm25",
                    "index": index,
                    "questions": questions,
                    "n_docs": n_docs,
                },
            )

    def _practice(self, name: str) -> str:
        return str(self.practice / name / "*.jsonl")

    def _trainings(self) -> Iterator[tuple[str, dict[str, Any]]]:
        asked = {
            "questions": [self._practice("questions")],
            "validation": [self._practice("validation_questions")],
        }
        searched = asked | {
            "index": str(self.train / "index"),
            "question_encoder": str(self.train / "retriever" / "question_encoder"),
            "n_docs": TRAINED_N_DOCS,
        }
        of_variant = {
            "closed": asked | {"n_docs": 0},
            "bm25": {
                "retrievals": ["bm25_practice"],
                "validation": ["bm25_held_out"],
                "n_docs": TRAINED_N_DOCS,
            },
            "frozen": searched | {"freeze_retriever": True},
            "trained": searched,
        }
        for model_type in MODEL_TYPES:
            for variant, options in of_variant.items():
                yield (
                    f"{variant}_{model_type}",
                    {
                        "stage": "train_rag",
                        "model": str(self.train / "reader_2" / "model"),
                        "model_type": model_type,
                        "batch_questions": 32,
                        "chunk_questions": 16,
                        "max_target_tokens": 24,
                        "max_validation": 300,
                        "max_steps": self.steps,
                        "learning_rate": 3e-4,
                        "warmup_steps": 20,
                        "validate_every": self.steps,
                        "seed": self.seed,
                    }
                    | options,
                )

    def _answers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Retrievals of the sample's questions, answers with so many of them, scores."""
        questions = str(_HERE / "world" / "questions.jsonl")
        for model_type in MODEL_TYPES:
            for variant in VARIANTS:
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
                            "n_docs": max(N_DOCS),
                        },
                    )
                if variant != "closed":
                    yield (
                        f"{variant}_{model_type}_recall",
                        {
                            "stage": "evaluate",
                            "predictions": retrievals,
                            "references": questions,
                            "metrics": [f"recall@{n_docs}" for n_docs in N_DOCS],
                        },
                    )
                for n_docs in documents_of(variant):
                    name = f"{variant}_{model_type}_{n_docs}"
                    yield (
                        f"{name}_answers",
                        {
                            "stage": "generate",
                            "retrievals": retrievals,
                            "model": model,
                            "model_type": model_type,
                            "n_docs": n_docs,
                            "max_new_tokens": 24,
                        },
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
            for variant in VARIANTS
            for n_docs in documents_of(variant)
        ]


@dataclass(frozen=True)
class Result:
    """How well a model answers with so many documents; recall is None closed book."""

    variant: str
    model_type: str
    n_docs: int
    exact_match: float
    recall: float | None


def documents_of(variant: str) -> tuple[int, ...]:
    """With how many documents a variant is tried."""
    return (0,) if variant == "closed" else N_DOCS


def table(results: Sequence[Result]) -> str:
    """Exact match and recall by number of documents, as lines for people."""
    lines = [f"{'exact match (recall)':<34}" + "".join(f"{f'K = {n_docs}':>16}" for n_docs in (0, *N_DOCS))]
    for model_type in MODEL_TYPES.values():
        for variant in VARIANTS.values():
            of_docs = {
                result.n_docs: result
                for result in results
                if (result.variant, result.model_type) == (variant, model_type)
            }
            cells = [_cell(of_docs.get(n_docs)) for n_docs in (0, *N_DOCS)]
            lines.append(f"{f'{model_type}, {variant}':<34}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    recall = "" if result.recall is None else f" ({result.recall:.3f})"
    return f"{result.exact_match:.3f}{recall}"


def write_plot(results: Sequence[Result], path: Path) -> None:
    """Exact match and recall against the number of documents, like the paper's figure 3."""
    from matplotlib.figure import Figure  # late: of the extra `train`

    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    for axis, model_type in zip(figure.subplots(1, 2, sharey=True), MODEL_TYPES.values(), strict=True):
        for number, variant in enumerate(VARIANTS.values()):
            shown = [r for r in results if (r.variant, r.model_type) == (variant, model_type)]
            colour = f"C{number}"
            if shown[0].recall is None:
                axis.axhline(shown[0].exact_match, color=colour, linestyle="-.", label=variant)
                continue
            documents = [result.n_docs for result in shown]
            exact = [result.exact_match for result in shown]
            axis.plot(documents, exact, color=colour, marker=".", label=variant)
            recalls = [result.recall for result in shown if result.recall is not None]
            axis.plot(documents, recalls, color=colour, linestyle=":", linewidth=1)
        axis.set(title=model_type, xlabel="documents", xscale="log", ylim=(0, 1.02))
        axis.set_xticks(N_DOCS, [str(n_docs) for n_docs in N_DOCS])
        axis.grid(alpha=0.3)
    figure.axes[0].set_ylabel("exact match; dotted: recall")
    figure.axes[1].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is not done yet, prints the table and writes it with the plot."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.ablations", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--train", type=Path, required=True, help="output of rag-beam run examples/train.yaml"
    )
    parser.add_argument("--practice", type=Path, required=True, help="practice worlds that its index is of")
    parser.add_argument(
        "--output", type=Path, default=_HERE.parent / "out" / "ablations", help="folder to write to"
    )
    parser.add_argument("--steps", type=int, default=300, help="of each of the eight trainings")
    parser.add_argument("--seed", type=int, default=0, help="of the trainings")
    options = parser.parse_args(argv)
    output = options.output.resolve()
    ablations = Ablations(
        options.train.resolve(), options.practice.resolve(), output, options.steps, options.seed
    )
    output.mkdir(parents=True, exist_ok=True)
    run_file = output / "run.yaml"
    run_file.write_text(yaml.safe_dump(ablations.run_file(), sort_keys=False))
    status = run.main([str(run_file)])
    if status == 0:
        results = ablations.results()
        (output / "table.txt").write_text(table(results) + "\n")
        write_plot(results, output / "ablations.png")
        print(f"\n{table(results)}\n\n{output / 'ablations.png'}")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
