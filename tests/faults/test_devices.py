"""Devices that run out of memory, and models that give no numbers: what is lost, and what is not."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rag_core.encoders.tower import Tower
from rag_core.generator import Generator
from tests.faults.devices import assert_same, limit_memory, tokens_of, without_numbers
from tests.pipelines.commands import manifest_of, rag_beam, read_rejects, read_table, status_of
from tests.pipelines.conftest import World
from tests.rag_core.tiny_encoders import write_json

LOST = {1, 4}  # rows whose numbers are none


def options(world: World, command: str, **changes: Any) -> dict[str, Any]:
    """A command that works, of the world's models."""
    given: dict[str, dict[str, Any]] = {
        "encode": {"passages": world.made("passages"), "encoder": world.passage_encoder},
        "retrieve": {
            "index": world.made("index"),
            "questions": world.questions,
            "encoder": world.question_encoder,
            "n_docs": 4,
        },
        "generate": {
            "retrievals": world.made("retrievals"),
            "model": world.generator,
            "max_new_tokens": 4,
        },
        "classify": {
            "retrievals": world.made("claim_retrievals"),
            "model": world.generator,
            "label_set": ["S=yes", "R=no"],
        },
    }
    return given[command] | {"num_threads": 1, "max_rejects": 1} | changes


COMMANDS = {
    "encode": ("encode", {}),
    "retrieve": ("retrieve", {}),
    "thorough": ("generate", {"model_type": "rag_sequence"}),
    "fast": ("generate", {"model_type": "rag_sequence", "decoding": "fast"}),
    "token": ("generate", {"model_type": "rag_token"}),
    "classify": ("classify", {}),
}


@pytest.fixture(scope="module")
def without_faults(world: World, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], pa.Table]:
    """What a command makes where nothing happens, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("without_faults")

    def made(name: str) -> pa.Table:
        if not (folder / name).exists():
            command, changes = COMMANDS[name]
            rag_beam(command, **options(world, command, **changes), output=folder / name)
        return read_table(folder / name)

    return made


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("holds", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_small_memory_gives_the_same_rows(
    world: World,
    tmp_path: Path,
    without_faults: Callable[[str], pa.Table],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    holds: int,
) -> None:
    expected = without_faults(name)
    memory = limit_memory(monkeypatch, lambda rows, _: len(rows) > holds)
    command, changes = COMMANDS[name]
    rag_beam(command, **options(world, command, **changes), output=tmp_path / "out")
    assert memory.refused
    assert max(memory.passes) <= holds
    assert_same(read_table(tmp_path / "out"), expected)


@pytest.mark.parametrize("name", ["thorough", "fast", "token", "classify"])
@pytest.mark.parametrize("failing", [{0}, {1, 2}])
def test_a_decoder_that_fails_at_a_pass_gives_the_same_rows(
    world: World,
    tmp_path: Path,
    without_faults: Callable[[str], pa.Table],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    failing: set[int],
) -> None:
    expected = without_faults(name)
    memory = limit_memory(monkeypatch, lambda _, number: number in failing, decoding=True)
    command, changes = COMMANDS[name]
    rag_beam(command, **options(world, command, **changes), output=tmp_path / "out")
    assert memory.refused == len(failing)
    assert_same(read_table(tmp_path / "out"), expected)


def ids_of(table: pa.Table) -> list[str]:
    return table.column(0).to_pylist()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_record_that_never_fits_is_named(
    world: World,
    tmp_path: Path,
    without_faults: Callable[[str], pa.Table],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    name: str,
) -> None:
    command, changes = COMMANDS[name]
    record_id = ids_of(without_faults(name))[3]
    tokens = tokens_of(world, command)[3]
    memory = limit_memory(monkeypatch, lambda rows, _: any(list(row) in tokens for row in rows))
    capfd.readouterr()
    assert status_of(command, **options(world, command, **changes), output=tmp_path / "out") == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert (
        said.startswith("rag-beam: ") and f"{record_id!r} does not fit into the memory of the device" in said
    )
    assert "row 3" in said and "--device" in said
    assert memory.refused > 1  # it came down to the record alone
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_no_number_is_rejected_and_its_neighbours_are_right(
    world: World,
    tmp_path: Path,
    without_faults: Callable[[str], pa.Table],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: float,
) -> None:
    command, changes = COMMANDS[name]
    expected = without_faults(name)
    lost = LOST & set(range(expected.num_rows))
    tokens = [row for number in lost for row in tokens_of(world, command)[number]]
    monkeypatch.setattr(Tower, "_forward", without_numbers(Tower._forward, tokens, value))
    monkeypatch.setattr(Generator, "_encode", without_numbers(Generator._encode, tokens, value))
    rag_beam(command, **options(world, command, **changes), output=tmp_path / "out")
    kept = [number for number in range(expected.num_rows) if number not in lost]
    assert_same(read_table(tmp_path / "out"), expected.take(kept))
    rejects = read_rejects(tmp_path / "out")
    assert [(row["position"], row["record_id"], row["reason"]) for row in rejects] == [
        (number, ids_of(expected)[number], "not_finite") for number in sorted(lost)
    ]
    assert all(repr(row["record_id"]) in row["message"] for row in rejects)
    counts = manifest_of(tmp_path / "out").counts
    assert counts.rejected == {"not_finite": len(lost)}
    assert counts.read == counts.accepted + counts.rejected.total() == expected.num_rows
    assert counts.rows_written == len(kept)


@pytest.mark.parametrize("command", ["train_retriever", "train_rag"])
def test_a_training_that_leaves_the_numbers_is_ended(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture, command: str
) -> None:
    rows = [
        {
            "question": f"{word}?",
            "answers": [],
            "positive_ctxs": [{"title": word, "text": f"of {word} {word}"}],
        }
        for word in ("gold", "paris", "river", "novel")
    ]
    write_json(tmp_path / "dpr.json", rows)
    chosen: dict[str, Any] = {
        "train_retriever": {
            "questions": tmp_path / "dpr.json",
            "question_encoder": world.question_encoder,
            "passage_encoder": world.passage_encoder,
        },
        "train_rag": {
            "questions": world.questions,
            "model": world.generator,
            "model_type": "rag_token",
            "n_docs": 0,
        },
    }[command]
    pace = {"learning_rate": 1e30, "warmup_steps": 0, "batch_questions": 2, "num_threads": 1}
    assert status_of(command, **chosen, **pace, output=tmp_path / "out") == 1
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "the loss is nan" in said.splitlines()[-1] and "--learning_rate" in said.splitlines()[-1]
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_a_unit_that_fails_is_named_and_only_it_is_computed_again(
    world: World,
    tmp_path: Path,
    without_faults: Callable[[str], pa.Table],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:
    expected = without_faults("encode")
    chosen = options(world, "encode", unit_rows=30, output=tmp_path / "out")
    [broken] = tokens_of(world, "encode")[40]
    encoded: list[int] = []
    forward = Tower._forward

    def counted(tower: Tower, rows: Sequence[Any]) -> torch.Tensor:
        if failing and any(row.tolist() == broken for row in rows):
            raise RuntimeError("CUDA error: an illegal memory access")
        encoded.append(len(rows))
        return forward(tower, rows)

    monkeypatch.setattr(Tower, "_forward", counted)
    failing = True
    assert status_of("encode", **chosen) == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith("rag-beam: unit 00000-000001 (")
    assert said.endswith("/part-00000-00000.parquet): RuntimeError: CUDA error: an illegal memory access")
    failing = False
    encoded.clear()
    rag_beam("encode", **chosen)
    assert sum(encoded) == 30
    assert pq.read_table(next((tmp_path / "out").glob("part-*"))).column(0).to_pylist() == ids_of(expected)
    assert_same(read_table(tmp_path / "out"), expected)
