"""A worker process of a real stage is killed at a random moment: the run says so, and a rerun makes it good."""

import os
import signal
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pipelines.dataset.target import WORK
from pipelines.heartbeat import read_notes
from pipelines.transforms.units import ComputeUnitFn
from tests.faults.kill_checks import differences
from tests.faults.kill_world import write_corpus
from tests.faults.killed_child import Child
from tests.pipelines.commands import rag_beam
from tests.pipelines.conftest import PASSAGE_WORDS

_SEED = Random().randrange(1 << 32)
_UNITS = 20  # a file each


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Of `chunk`, whose workers start soonest."""
    write_corpus(tmp_path / "corpus", _UNITS)
    return {
        "input": f"{tmp_path}/corpus/*",
        "passage_words": PASSAGE_WORDS,
        "max_rejects": 1,
        "progress": "none",
    }


def start(options: dict[str, Any], output: Path) -> Child:
    """The stage with two workers."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = ["chunk", *words, "--output", str(output), "--direct_num_workers", "2"]
    return Child(command, output.parent, output.parent / "desk")


def whole_units(output: Path) -> set[str]:
    files = (output / WORK / "units").glob("[0-9]*.parquet")
    return {path.stem for path in files if not path.name.endswith(".rejects.parquet")}


def kill_a_worker(launcher: Child, output: Path, units: int) -> set[str]:
    """Kills one that is at a unit, when so many units or more are whole; returns what it was at."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert not launcher.has_ended(), launcher.ending()
        notes = list(read_notes(str(output / WORK / "progress"))) if len(whole_units(output)) >= units else []
        for pid in {note["pid"] for note in notes}:
            os.kill(pid, signal.SIGSTOP)  # so that what it is at is still true when it dies
            at_work = {
                note["unit"] for note in read_notes(str(output / WORK / "progress")) if note["pid"] == pid
            }
            os.kill(pid, signal.SIGKILL if at_work else signal.SIGCONT)
            if at_work:
                return at_work
        time.sleep(0.002)
    raise AssertionError(f"no worker was seen at a unit after {units} units")


def test_a_killed_workers_unit_is_named_and_done_by_the_rerun(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, output = tmp_path / "undisturbed" / "out", tmp_path / "killed" / "out"
    rag_beam("chunk", **options, output=undisturbed)
    units = Random(_SEED).randrange(_UNITS // 2)
    print(f"seed {_SEED}: a worker is killed after {units} units")
    launcher = start(options, output)
    at_work = kill_a_worker(launcher, output, units)
    ending = launcher.ending()
    assert ending.status == 1
    told = ending.err.splitlines()[-1]
    assert told.startswith("rag-beam: a worker process was killed by signal 9 ")
    assert any(f"while it computed {unit}. " in told for unit in at_work)

    whole = whole_units(output)
    assert len(whole) >= units
    computed: set[str] = set()
    compute = ComputeUnitFn._compute

    def noted(self: ComputeUnitFn, unit: Any) -> Any:
        computed.add(f"{unit.source:05d}-{unit.number:06d}")
        return compute(self, unit)

    monkeypatch.setattr(ComputeUnitFn, "_compute", noted)
    rag_beam("chunk", **options, output=output)
    assert computed.isdisjoint(whole)
    assert len(computed | whole) == _UNITS
    assert differences(output, undisturbed) == []
