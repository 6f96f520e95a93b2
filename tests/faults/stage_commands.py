"""A command of each stage, and what it must give however often it was stopped."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.commands import history_of, manifest_of, read_rejects, status_of
from tests.pipelines.conftest import PASSAGE_WORDS, World
from tests.pipelines.dataset.running import content

Command = tuple[str, dict[str, Any]]


@pytest.fixture(scope="module")
def corpus(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world's corpus in two files, with a bad line and an id that comes twice."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = world.corpus.read_text().splitlines(keepends=True)
    # too large to share a unit
    (folder / "a.jsonl").write_text("".join(lines[:30]) + "\n" * (65 << 10))
    (folder / "b.jsonl").write_text("no json\n" + "".join(lines[29:]))
    return folder


def training_options(world: World) -> dict[str, Any]:
    """Of a short `train_retriever` with a checkpoint in its midst."""
    return {
        "questions": world.made("retrievals"),
        "question_encoder": world.question_encoder,
        "passage_encoder": world.passage_encoder,
        "batch_questions": 5,
        "max_steps": 4,
        "checkpoint_every": 2,
        "num_threads": 1,
    }


@pytest.fixture(scope="module")
def commands(world: World, corpus: Path) -> dict[str, Command]:
    """A command of each stage, without its output."""
    made = {name: world.made(name) for name in ("passages", "embeddings")}
    search = {"index": world.made("index"), "encoder": world.question_encoder, "questions": world.questions}
    model = {"model": world.generator, "num_threads": 1}
    tuned = {"factory": "SQfp16,RFlat", "sample_questions": 10}
    training = training_options(world)
    return {
        "chunk": ("chunk", {"input": f"{corpus}/*.jsonl", "passage_words": PASSAGE_WORDS}),
        "encode": (
            "encode",
            {
                "passages": made["passages"],
                "encoder": world.passage_encoder,
                "unit_rows": 60,
                "num_threads": 1,
            },
        ),
        "index": ("index", made | {"shard_rows": 60}),
        "approximate index": ("index", made | tuned),
        "retrieve": ("retrieve", search | {"n_docs": 4, "num_threads": 1}),
        "generate": (
            "generate",
            model
            | {"retrievals": world.made("retrievals"), "model_type": "rag_sequence", "max_new_tokens": 3},
        ),
        "classify": (
            "classify",
            model
            | {"retrievals": world.made("claim_retrievals"), "label_set": ["SUPPORTS=yes", "REFUTES=no"]},
        ),
        "evaluate": (
            "evaluate",
            {"predictions": world.made("retrievals"), "references": world.questions, "exports": "trec"},
        ),
        "train_retriever": ("train_retriever", training),
    }


def status(command: Command, output: Path) -> int:
    stage, options = command
    return status_of(stage, **options, output=output, progress="none")


def result(output: Path) -> Any:
    """What must be equal however often a run was stopped."""
    manifest = manifest_of(output)
    names = [(part.name, part.rows, part.sha256) for part in manifest.parts]
    if manifest.table == "model":
        return history_of(output), manifest.details["files"]
    return names, manifest.counts, read_rejects(output), sorted(content(output))


@pytest.fixture(scope="module")
def undisturbed(
    commands: dict[str, Command], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Any]:
    """The result of a stage to which nothing happened."""

    @functools.cache
    def of(stage: str) -> Any:
        output = tmp_path_factory.mktemp("undisturbed") / "out"
        assert status(commands[stage], output) == 0
        return result(output)

    return of
