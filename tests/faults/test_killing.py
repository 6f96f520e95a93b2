"""Runs that are killed or interrupted at random moments, or their workers, and run again end as undisturbed ones do.

The long form, with hundreds of kills and more units: `python -m tests.faults.killing`.
"""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pipelines.dataset.target import WORK
from pipelines.heartbeat import read_notes
from pipelines.transforms.units import ComputeUnitFn
from tests.faults.kill_checks import differences
from tests.faults.kill_moments import Blow, draw
from tests.faults.kill_world import write_corpus
from tests.faults.killed_child import Child
from tests.faults.killing import TOLD, WHOLE_RUN, Bench
from tests.pipelines.commands import rag_beam, words_of
from tests.pipelines.conftest import PASSAGE_WORDS

_FILES = 4
_AT_ONCE = 2
_KILLS = 1
_WORKERS_UNITS = 20  # a file each
_SEED = Random().randrange(1 << 32)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("killing") / "bench", _FILES)


def blows(bench: Bench, subject: str) -> list[Blow]:
    """A kill and a softer signal, at moments that the seed draws."""
    random = Random(f"{_SEED} {subject}")
    signals = [*[signal.SIGKILL] * _KILLS, random.choice(list(TOLD))]
    return [draw(random, bench.undisturbed[subject], [int(signum)]) for signum in signals]


def test_every_stage_alone(bench: Bench) -> None:
    print(f"seed {_SEED}")

    def strike(subject: str):
        return bench.strike(0, subject, iter(blows(bench, subject)))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        rounds = list(pool.map(strike, bench.steps))
    assert [str(item) for item in rounds if item.problems] == []
    assert sum(len(item.blows) for item in rounds) >= len(rounds)


def test_all_stages_in_one_run(bench: Bench) -> None:
    print(f"seed {_SEED}")
    played = bench.strike(0, WHOLE_RUN, iter(blows(bench, WHOLE_RUN)))
    assert played.problems == []


def test_a_kill_between_the_last_part_and_the_manifest_costs_no_unit(bench: Bench) -> None:
    """All parts are there and are taken as they are."""
    played = bench.strike(0, "passages", iter([Blow(signal.SIGKILL, moment="passages/manifest", count=3)]))
    assert played.problems == []
    assert (played.whole, played.again) == (_FILES, 0)


def test_a_part_with_half_its_name_is_assembled_again(bench: Bench) -> None:
    """The last byte of the second part is written, its name is not."""
    played = bench.strike(0, "answers", iter([Blow(signal.SIGKILL, moment="answers/part", count=2)]))
    assert played.problems == []
    assert played.again == 0


def test_of_two_that_are_started_together_one_is_told_of_the_other(bench: Bench) -> None:
    bench.clear("embeddings")
    both = [bench.start("embeddings", desk=desk) for desk in ("one", "other")]
    endings = sorted((child.ending() for child in both), key=lambda ending: ending.status)
    assert [ending.status for ending in endings] == [0, 2]
    assert f"process {endings[0].pid} on " in endings[1].err
    assert "is working on it; wait for it, or give another folder" in endings[1].err
    assert endings[1].err.count("\n") == 1
    assert bench.differences("embeddings") == []


@pytest.fixture
def chunking(tmp_path: Path) -> dict[str, Any]:
    """Of `chunk`, whose workers start soonest."""
    write_corpus(tmp_path / "corpus", _WORKERS_UNITS)
    return {
        "input": f"{tmp_path}/corpus/*",
        "passage_words": PASSAGE_WORDS,
        "max_rejects": 1,
        "progress": "none",
    }


def start_with_workers(options: dict[str, Any], output: Path) -> Child:
    """The stage with two workers."""
    command = ["chunk", *words_of(options | {"output": output, "direct_num_workers": 2})]
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
    chunking: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, output = tmp_path / "undisturbed" / "out", tmp_path / "killed" / "out"
    rag_beam("chunk", **chunking, output=undisturbed)
    units = Random(_SEED).randrange(_WORKERS_UNITS // 2)
    print(f"seed {_SEED}: a worker is killed after {units} units")
    launcher = start_with_workers(chunking, output)
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
    rag_beam("chunk", **chunking, output=output)
    assert computed.isdisjoint(whole)
    assert len(computed | whole) == _WORKERS_UNITS
    assert differences(output, undisturbed) == []
