"""Runs that are killed or interrupted at random moments and run again end as undisturbed ones do.

The long form, with hundreds of kills and more units: `python -m tests.faults.killing`.
"""

import signal
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from tests.faults.kill_moments import Blow, draw
from tests.faults.killing import TOLD, WHOLE_RUN, Bench

_FILES = 4
_AT_ONCE = 2
_KILLS = 1
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
