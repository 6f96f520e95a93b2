"""Inputs and models that change: between a stop and its resume, between their hash and their reading."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines import launch, sources
from pipelines.dataset.manifest import Input
from rag_core.storage import Storage
from tests.faults.full_disk import no_room_at
from tests.faults.refused import Options, refusal
from tests.pipelines.commands import rag_beam, read_table, status_of
from tests.pipelines.conftest import PASSAGE_WORDS, World


def test_a_corpus_that_changed_between_a_stop_and_its_resume_is_refused_and_named(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = Path(shutil.copy(world.corpus, tmp_path / "corpus.jsonl"))
    options = {"input": corpus, "passage_words": PASSAGE_WORDS}
    with monkeypatch.context() as patch:
        no_room_at(patch, "part-00000-00000.parquet")
        assert status_of("chunk", **options, output=tmp_path / "out") == 1
    corpus.write_text(corpus.read_text().replace("market", "bazaar"))
    assert f"{corpus} has changed" in refusal(capsys, tmp_path / "out", "chunk", options)
    shutil.copy(world.corpus, corpus)
    rag_beam("chunk", **options, output=tmp_path / "out")
    assert read_table(tmp_path / "out").equals(read_table(world.made("passages")))


def when_hashed(monkeypatch: pytest.MonkeyPatch, path: Path, change: Callable[[], object]) -> None:
    """Changes a file right after a run has hashed it for its plan, before it is read."""
    hash_input = sources.raw_input

    def hash_and_change(storage: Storage, name: str) -> Input:
        hashed = hash_input(storage, name)
        if name == str(path):
            change()
        return hashed

    monkeypatch.setattr(sources, "raw_input", hash_and_change)


CHANGES: dict[str, Callable[[Path], object]] = {
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "of the same size": lambda path: path.write_bytes(path.read_bytes().replace(b"Aranth", b"Onebyo")),
    "of the same size and time": lambda path: (
        path.write_bytes(path.read_bytes().replace(b"Aranth", b"Onebyo")),
        os.utime(path, ns=(0, 0)),
    ),
    "removed": lambda path: path.unlink(),
}


@pytest.fixture
def raw_readers(world: World, tmp_path: Path) -> dict[str, tuple[Path, str, Options]]:
    """For each stage that reads raw files: such a file, and the command that reads it."""
    corpus = Path(shutil.copy(world.corpus, tmp_path / "corpus.jsonl"))
    questions = Path(shutil.copy(world.questions, tmp_path / "questions.jsonl"))
    asking = {"index": world.made("index"), "encoder": world.question_encoder, "num_threads": 1}
    training = {
        "model": world.generator,
        "model_type": "rag_sequence",
        "n_docs": 0,
        "max_steps": 1,
        "batch_questions": 5,
    }
    predictions = world.made("retrievals")
    return {
        "chunk": (corpus, "chunk", {"input": corpus}),
        "retrieve": (questions, "retrieve", asking | {"questions": questions, "n_docs": 2}),
        "evaluate": (questions, "evaluate", {"predictions": predictions, "references": questions}),
        "train_rag": (questions, "train_rag", training | {"questions": questions}),
    }


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "reader",
    ["chunk", *(pytest.param(r, marks=pytest.mark.slow) for r in ("retrieve", "evaluate", "train_rag"))],
)
def test_a_source_that_changes_between_its_hash_and_its_reading_is_noticed(
    raw_readers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    reader: str,
    change: str,
) -> None:
    path, stage, options = raw_readers[reader]
    os.utime(path, ns=(0, 0))
    with monkeypatch.context() as patch:
        when_hashed(patch, path, lambda: CHANGES[change](path))
        told = refusal(capsys, tmp_path / "out", stage, options)
    assert told.startswith(f"rag-beam: {path}: was changed or removed while this run read it; put back")


@pytest.mark.parametrize("stage", ["encode", "retrieve", "generate"])
def test_a_model_that_changes_after_the_plan_is_noticed(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
) -> None:
    """Workers load it later, each at its time."""
    of_stage: dict[str, tuple[Path, Options]] = {
        "encode": (world.passage_encoder, {"passages": world.made("passages")}),
        "retrieve": (world.question_encoder, {"index": world.made("index"), "questions": world.questions}),
        "generate": (
            world.generator,
            {"retrievals": world.made("retrievals"), "model_type": "rag_token", "max_new_tokens": 2},
        ),
    }
    model, options = of_stage[stage]
    copy = Path(shutil.copytree(model, tmp_path / "model"))
    [weights] = copy.rglob("*.safetensors")
    other = bytearray(weights.read_bytes())
    other[-1] ^= 1
    claim = launch.claim

    def change_and_claim(*arguments: Any, **named: Any) -> Any:
        weights.write_bytes(other)
        return claim(*arguments, **named)

    monkeypatch.setattr(launch, "claim", change_and_claim)
    named = {"model" if stage == "generate" else "encoder": copy}
    told = refusal(capsys, tmp_path / "out", stage, options | named)
    assert told.startswith(f"rag-beam: {copy}: was changed while this run began; put back what it held")


def test_a_source_that_is_copied_anew_while_it_is_read_is_the_same(
    raw_readers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, stage, options = raw_readers["chunk"]

    def copy_anew() -> None:
        shutil.copy(path, tmp_path / "copy")
        (tmp_path / "copy").replace(path)

    when_hashed(monkeypatch, path, copy_anew)
    rag_beam(stage, **options, output=tmp_path / "out")


def test_a_source_of_a_folders_data_set_that_changes_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    datasets = pytest.importorskip("datasets")
    saved = tmp_path / "saved"
    datasets.Dataset.from_dict({"id": ["d"], "text": ["some words"]}).save_to_disk(saved)
    when_hashed(monkeypatch, saved, lambda: (saved / "state.json").write_text("{}"))
    told = refusal(capsys, tmp_path / "out", "chunk", {"input": saved, "input_format": "hf_dataset"})
    assert told.startswith(f"rag-beam: {saved}: was changed or removed while")
