"""Of two processes that train one model one is killed, or both: the run ends, and a rerun makes the same model."""

import functools
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pipelines.dataset.manifest import MANIFEST
from pipelines.dataset.target import WORK
from tests.faults.kill_checks import differences
from tests.pipelines.commands import in_two_processes
from tests.pipelines.conftest import World

pytestmark = pytest.mark.slow

_SEED = Random().randrange(1 << 32)
_KILLS = 2
_CHECKPOINTS = 20
_STEPS = 3 * _CHECKPOINTS
_SECONDS_TO_END = 300


def options(world: World, stage: str) -> dict[str, Any]:
    """A training with that many checkpoints."""
    models: dict[str, dict[str, Any]] = {
        "train_retriever": {
            "questions": world.made("retrievals"),
            "validation": world.made("retrievals"),
            "question_encoder": world.question_encoder,
            "passage_encoder": world.passage_encoder,
        },
        "train_rag": {
            "questions": world.questions,
            "validation": world.questions,
            "index": world.made("index"),
            "question_encoder": world.question_encoder,
            "model": world.generator,
            "model_type": "rag_sequence",
            "n_docs": 2,
            "max_target_tokens": 8,
        },
    }
    return models[stage] | {
        "batch_questions": 4,
        "max_steps": _STEPS,
        "validate_every": 20,
        "checkpoint_every": _STEPS // _CHECKPOINTS,
        "warmup_steps": 3,
        "num_threads": 1,
    }


class Replicas:
    """Two processes at one training, in a session of their own."""

    def __init__(self, world: World, stage: str, output: Path):
        self._log = output.parent / f"{output.name}.log"
        with self._log.open("w") as log:
            self._launcher = subprocess.Popen(
                **in_two_processes(stage, options(world, stage) | {"output": output}),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ending(self) -> int:
        """Waits for the end; the launcher's exit status."""
        return self._launcher.wait(_SECONDS_TO_END)

    def said(self) -> str:
        """What all of them wrote."""
        return self._log.read_text()

    def kill(self, victim: str) -> None:
        """Kills the first process, the second, or all of them with their launcher."""
        trainers = self._trainers()
        if victim == "all":
            os.kill(self._launcher.pid, signal.SIGKILL)
        for rank, pid in trainers.items():
            if victim in ("all", rank):
                os.kill(pid, signal.SIGKILL)

    def _trainers(self) -> dict[str, int]:
        """Process ids by which of them it is."""
        launcher = self._launcher.pid
        pids = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        trainers = {}
        for pid in pids:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            words = dict(word.split(b"=", 1) for word in environment if b"=" in word)
            trainers[{b"0": "first", b"1": "second"}[words[b"RANK"]]] = int(pid)
        assert trainers.keys() == {"first", "second"}
        return trainers


def wait_for_checkpoints(replicas: Replicas, output: Path, count: int) -> None:
    """Until so many more have been written."""
    checkpoint = output / WORK / "checkpoint.pt"
    deadline = time.monotonic() + _SECONDS_TO_END
    seen = {inode_of(checkpoint)}
    while len(seen) <= count:
        assert time.monotonic() < deadline, replicas.said()
        assert not (output / MANIFEST).exists(), "it ended before it was killed"
        seen.add(inode_of(checkpoint))
        time.sleep(0.001)


def inode_of(path: Path) -> tuple[int, int]:
    """Which file has the path, and since when; zeros where none does."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns


@pytest.fixture(scope="module")
def undisturbed(world: World, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """What a training makes to which nothing happens."""

    @functools.cache
    def of(stage: str) -> Path:
        output = tmp_path_factory.mktemp(stage) / "out"
        replicas = Replicas(world, stage, output)
        assert replicas.ending() == 0, replicas.said()
        return output

    return of


@pytest.mark.parametrize("victim", ["first", "second", "all"])
@pytest.mark.parametrize("stage", ["train_retriever", "train_rag"])
def test_a_training_whose_processes_are_killed_ends_as_if_nothing_had_happened(
    world: World, undisturbed: Callable[[str], Path], tmp_path: Path, stage: str, victim: str
) -> None:
    expected = undisturbed(stage)
    random = Random(f"{_SEED} {stage} {victim}")
    print(f"seed {_SEED}")
    output = tmp_path / "out"
    for _ in range(_KILLS):
        replicas = Replicas(world, stage, output)
        wait_for_checkpoints(replicas, output, random.randint(1, _CHECKPOINTS // (2 * _KILLS)))
        time.sleep(random.uniform(0, 0.05))
        replicas.kill(victim)
        assert replicas.ending() != 0
        assert not (output / MANIFEST).exists()
    replicas = Replicas(world, stage, output)
    assert replicas.ending() == 0, replicas.said()
    assert "goes on after step" in replicas.said()
    assert differences(output, expected) == []
