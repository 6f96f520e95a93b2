"""`rag-beam train_retriever` from outside: what it writes, resumes, refuses, and what the other stages make of it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import transformers

from pipelines import train_retriever
from rag_core.encoders import load_passage_encoder, load_question_encoder
from rag_core.training.run import TrainingRun
from tests.pipelines.commands import (
    history_of,
    in_two_processes,
    manifest_of,
    rag_beam,
    read_rejects,
    read_table,
    status_of,
    words_of,
)
from tests.pipelines.conftest import World, write_lines
from tests.rag_core.tiny_encoders import write_sentence_transformer

WORDS = ["paris", "germany", "gold", "museums", "mount", "novel", "white", "river", "president", "chemical"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten questions in DPR's format, and one that has no passage."""
    rows: list[dict[str, Any]] = [
        {
            "question": f"what of {word} ?",
            "answers": [word],
            "positive_ctxs": [{"title": word, "text": f"it is said of {word}"}],
            "hard_negative_ctxs": [{"title": "", "text": f"nothing here, {number}"}],
        }
        for number, word in enumerate(WORDS)
    ]
    path = tmp_path_factory.mktemp("questions") / "train.json"
    path.write_text(json.dumps([*rows, {"question": "why?", "answers": [], "positive_ctxs": []}]))
    return path


def options(world: World, questions: Path, output: Path, /, **changes: Any) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "questions": questions,
        "validation": questions,
        "question_encoder": world.question_encoder,
        "passage_encoder": world.passage_encoder,
        "output": output,
        "batch_questions": 5,
        "chunk_texts": 4,
        "epochs": 3,
        "learning_rate": 1e-3,
        "warmup_steps": 1,
        "validate_every": 2,
        "checkpoint_every": 2,
        "num_threads": 1,
    } | changes
    return {name: value for name, value in chosen.items() if value is not None}


def weights_of(folder: Path) -> dict[str, str]:
    return {item["name"]: item["sha256"] for item in manifest_of(folder).details["files"]}


@pytest.fixture(scope="module")
def trained(world: World, questions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "retriever"
    rag_beam("train_retriever", **options(world, questions, output))
    return output


def test_the_output_is_a_model_with_its_history(trained: Path, world: World, questions: Path) -> None:
    manifest = manifest_of(trained)
    assert manifest.table == "model"
    counts = manifest.counts.to_json()
    assert {name: counts[name] for name in ("read", "accepted", "left_out", "rejected")} == {
        "read": 22,
        "accepted": 20,
        "left_out": {"no_positive": 2},
        "rejected": {},
    }
    assert counts["validation_questions"] == 10
    history = read_table(trained).to_pylist()
    assert [row["step"] for row in history] == [0, 2, 4, 6]
    assert {figure["name"] for figure in history[0]["scores"]} == {
        "average_rank",
        "recall@1",
        "recall@5",
        "recall@20",
    }
    saved = manifest.details["training"]["saved_step"]
    assert saved == max(row["step"] for row in history if row["best"])
    assert (trained / "history.png").read_bytes().startswith(b"\x89PNG")
    assert not (trained / ".work").exists()
    assert not (trained / "rejects").exists()
    listed = {*weights_of(trained), "history.parquet", "history.png", "manifest.json"}
    assert listed == {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    question_encoder = load_question_encoder(str(trained / "question_encoder"), device="cpu")
    passage_encoder = load_passage_encoder(str(trained / "passage_encoder"), device="cpu")
    assert question_encoder.passage_encoder_fingerprint == passage_encoder.fingerprint
    untrained = load_passage_encoder(str(world.passage_encoder), device="cpu")
    assert passage_encoder.fingerprint != untrained.fingerprint


def test_the_weights_of_the_highest_recall_are_saved(world: World, questions: Path, tmp_path: Path) -> None:
    output = tmp_path / "retriever"
    rag_beam("train_retriever", **options(world, questions, output, best_by="recall@1"))
    recalls = {
        row["step"]: figure["value"]
        for row in read_table(output).to_pylist()
        for figure in row["scores"]
        if figure["name"] == "recall@1"
    }
    highest = [step for step, recall in recalls.items() if recall == max(recalls.values())]
    assert manifest_of(output).details["training"]["saved_step"] == min(highest)
    assert min(recalls.values()) < max(recalls.values())


def test_a_complete_model_is_not_trained_again(
    trained: Path, world: World, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "manifest.json").read_bytes()
    rag_beam("train_retriever", **options(world, questions, trained, checkpoint_every=1, device="cpu"))
    assert "nothing to do" in capsys.readouterr().out
    assert (trained / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"learning_rate": 1e-4}, "learning_rate was 0.001, is 0.0001"),
        ({"validation": None}, "validation_files was 1, is 0"),
        ({"score_scale": 2}, "score_scale was 1.0, is 2.0"),
    ],
)
def test_other_settings_are_refused(
    changes: dict[str, Any],
    told: str,
    trained: Path,
    world: World,
    questions: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status_of("train_retriever", **options(world, questions, trained, **changes)) == 2
    assert told in capsys.readouterr().err


def test_a_file_of_the_model_that_is_gone_is_told(
    world: World, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = options(world, questions, tmp_path / "m", max_steps=1, validation=None, progress="none")
    transformers.utils.logging.enable_progress_bar()  # as in a new process
    rag_beam("train_retriever", **chosen)
    assert capsys.readouterr().err == ""
    assert manifest_of(tmp_path / "m").details["training"]["saved_step"] == 1
    (tmp_path / "m" / "passage_encoder" / "model.safetensors").unlink()
    assert status_of("train_retriever", **chosen) == 2
    assert "model.safetensors: is missing" in capsys.readouterr().err
    rag_beam("train_retriever", **chosen, overwrite=True)
    assert (tmp_path / "m" / "passage_encoder" / "model.safetensors").exists()


@pytest.mark.parametrize("steps_before", [1, 3])
def test_an_interrupted_run_goes_on_and_gives_the_same(
    steps_before: int,
    trained: Path,
    world: World,
    questions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Killed(Exception):
        pass

    step = TrainingRun.step

    def step_or_die(run: TrainingRun) -> dict[str, float]:
        if run.steps_done == steps_before:
            raise Killed
        return step(run)

    chosen = options(world, questions, tmp_path / "m")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(TrainingRun, "step", step_or_die)
        status_of("train_retriever", **chosen)
    assert not (tmp_path / "m" / "manifest.json").exists()
    assert status_of("inspect", str(tmp_path / "m")) == 0
    assert "unfinished" in capsys.readouterr().out
    rag_beam("train_retriever", **chosen)
    assert ("goes on after step 2" in capsys.readouterr().out) == (steps_before == 3)
    assert history_of(tmp_path / "m") == history_of(trained)
    assert weights_of(tmp_path / "m") == weights_of(trained)


@pytest.mark.usefixtures("heeded_interrupts")
@pytest.mark.parametrize(
    "number, status", [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_signal_ends_it_with_its_status(
    number: signal.Signals, status: int, world: World, questions: Path, tmp_path: Path
) -> None:
    chosen = options(world, questions, tmp_path / "m", epochs=100_000, checkpoint_every=1)
    arguments = words_of(chosen)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.train_retriever", *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "m" / ".work" / "checkpoint.pt").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(number)
    _, told = process.communicate(timeout=300)
    assert process.returncode == status, told
    assert "the same command goes on from there" in told
    assert not (tmp_path / "m" / ".lock").exists()


def test_one_tower_from_retrievals_serves_encode_and_retrieve(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers are words of the passages; every question finds some of them among 30."""
    write_lines(
        tmp_path / "q.jsonl",
        [{"id": n, "question": f"bridge {n} ?", "answers": [f"{n + 2} arches"]} for n in range(8)],
    )
    rag_beam(
        "retrieve",
        index=world.made("index"),
        questions=tmp_path / "q.jsonl",
        encoder=world.question_encoder,
        n_docs=80,
        num_threads=1,
        output=tmp_path / "retrievals",
    )
    start = write_sentence_transformer(tmp_path / "start")
    output = tmp_path / "retriever"
    capsys.readouterr()
    rag_beam(
        "train_retriever",
        questions=tmp_path / "retrievals",
        encoder=start,
        output=output,
        batch_questions=4,
        epochs=1,
        hard_negatives=2,
        num_threads=1,
    )
    manifest = manifest_of(output)
    assert "read as retrievals" in capsys.readouterr().out
    assert manifest.settings["score_scale"] == 20.0
    assert manifest.details["training"]["steps"] == 2
    rag_beam("inspect", str(output))
    shown = capsys.readouterr().out
    assert "model" in shown
    assert "trained: 2 steps" in shown
    assert "encoder/model.safetensors" in shown
    made = {name: tmp_path / name for name in ("embeddings", "index", "found")}
    rag_beam(
        "encode",
        passages=world.made("passages"),
        encoder=output / "encoder",
        num_threads=1,
        output=made["embeddings"],
    )
    rag_beam("index", embeddings=made["embeddings"], passages=world.made("passages"), output=made["index"])
    search = {"index": made["index"], "questions": tmp_path / "q.jsonl", "n_docs": 2, "num_threads": 1}
    rag_beam("retrieve", **search, encoder=output / "encoder", output=made["found"])
    assert read_table(made["found"]).num_rows == 8
    # the index belongs to the trained encoder alone
    assert status_of("retrieve", **search, encoder=start, output=tmp_path / "other") == 2


def test_bad_records_are_kept_and_a_flood_of_them_ends_it(
    world: World, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads(questions.read_text())
    path = tmp_path / "train.json"
    path.write_text(json.dumps([*rows[:10] * 11, *({"question": n, "positive_ctxs": []} for n in range(5))]))
    chosen = options(world, path, tmp_path / "m", validation=None, max_steps=1)
    assert status_of("train_retriever", **chosen) == 1
    assert "5 of 115 records were rejected (bad_field 5)" in capsys.readouterr().err
    assert len(read_rejects(tmp_path / "m")) == 5
    rag_beam("train_retriever", **chosen, max_rejects=0.1)
    [first, *_] = read_rejects(tmp_path / "m")
    assert (first["stage"], first["reason"], first["position"]) == ("train_retriever", "bad_field", 110)
    assert manifest_of(tmp_path / "m").counts.rejected == {"bad_field": 5}


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"passage_encoder": None}, "give --question_encoder and --passage_encoder, or --encoder"),
        ({"encoder": "some/model"}, "give --question_encoder and --passage_encoder, or --encoder"),
        ({"passage_template": "{text}"}, "--passage_template: belongs to --encoder"),
        ({"batch_questions": 11}, "10 training questions for batches of 11"),
        ({"questions": "none.json"}, "none.json"),
        ({"precision": "float16"}, "--precision float16"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_sentence(
    changes: dict[str, Any],
    told: str,
    world: World,
    questions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status_of("train_retriever", **options(world, questions, tmp_path / "m", **changes)) == 2
    message = capsys.readouterr().err
    assert told in message
    assert message.count("\n") == 1


def test_a_missing_matplotlib_is_said_before_any_work(
    world: World,
    questions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert status_of("train_retriever", **options(world, questions, tmp_path / "m")) == 2
    assert "pip install 'rag-beam[train]'" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_train_one_model(world: World, questions: Path, tmp_path: Path) -> None:
    """They draw other dropout than one does, so only what must be equal is compared."""
    chosen = options(world, questions, tmp_path / "m", batch_questions=3)
    called = in_two_processes("train_retriever", chosen)
    for expected in ("9 steps", "nothing to do"):
        done = subprocess.run(**called, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(expected) == 1
    manifest = manifest_of(tmp_path / "m")
    assert manifest.details["training"]["processes"] == 2
    assert manifest.counts.read == 22
    assert [row["step"] for row in pq.read_table(tmp_path / "m" / "history.parquet").to_pylist()] == [
        0,
        2,
        4,
        6,
        8,
        9,
    ]


def test_python_dash_m_is_the_same_command() -> None:
    assert train_retriever.main == train_retriever.STAGE.main
