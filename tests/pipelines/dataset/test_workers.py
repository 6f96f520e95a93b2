"""Workers: any number of them gives the same bytes, and what fails in one is told in a sentence."""

import json
from pathlib import Path

import pytest

from tests.pipelines.dataset.running import UNITS, committed_units, content, run
from tests.pipelines.dataset.small_stage import Sources, computed, set_trap

# enough units for both workers, with duplicates across them
MANY: Sources = [
    [
        [[f"id{(7 * unit + 3 * record) % 40}", record % 3 + 1, "accept"] for record in range(6)]
        for unit in range(5)
    ]
    for _ in range(3)
]


def test_two_workers_make_the_bytes_of_one(tmp_path):
    options = ["--max_rejects", "1", "--rows_per_part", "9"]
    assert run(tmp_path, *options, output="one", sources=MANY) == 0
    assert run(tmp_path, *options, "--direct_num_workers", "2", output="two") == 0
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert json.loads(one["manifest.json"]) == json.loads(two["manifest.json"])
    assert one == two
    assert len(one) > 6
    assert len(computed(tmp_path / "records.json")) == 2 * 15


def test_two_units_at_a_time_make_the_bytes_of_one(tmp_path):
    options = ["--max_rejects", "1", "--rows_per_part", "9"]
    trap = set_trap(tmp_path / "trap.json", "0-0", "meet")
    assert run(tmp_path, *options, output="one", sources=MANY) == 0
    Path(f"{tmp_path}/records.json.computed").unlink()
    assert run(tmp_path, *options, "--units_at_once", "2", "--trap", str(trap), output="two") == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.parametrize("unit", ["0-0", "2-4"])
def test_a_unit_that_fails_beside_another_is_named(tmp_path, capfd, unit):
    trap = set_trap(tmp_path / "trap.json", unit, "raise")
    assert run(tmp_path, "--units_at_once", "2", "--trap", str(trap), sources=MANY) == 1
    source, number = (int(digits) for digits in unit.split("-"))
    assert f"unit {source:05d}-{number:06d} " in capfd.readouterr().err
    assert run(tmp_path, "--units_at_once", "2", "--max_rejects", "1", sources=MANY) == 0


def test_a_failing_unit_is_named_and_the_others_are_kept(tmp_path, capfd):
    trap = set_trap(tmp_path / "trap.json", "1-0", "raise")
    assert run(tmp_path, "--trap", str(trap)) == 1
    message = capfd.readouterr().err
    assert (
        "rag-beam: unit 00001-000000 (even-1.txt and 1 more files): RuntimeError: the trap sprang\n"
        in message
    )
    assert "in _spring" in message  # not ours: whoever mends it needs the traceback
    assert set(committed_units(tmp_path / "out")) == set(UNITS) - {"1-0"}


def test_a_users_mistake_that_a_worker_finds_is_one_sentence(tmp_path, capfd):
    trap = set_trap(tmp_path / "trap.json", "0-1", "usage")
    assert run(tmp_path, "--trap", str(trap)) == 2
    assert capfd.readouterr().err == "rag-beam: the model lies elsewhere; give its folder\n"


def test_a_failure_of_an_earlier_run_is_not_told_again(stopped, capfd, monkeypatch):
    """The word it left would hide what failed this time."""
    from pipelines import launch

    def broken(tasks, options):
        raise ConnectionError("the runner is gone")

    monkeypatch.setattr(launch, "_run_pipeline", broken)
    try:
        status = run(stopped)
    except ConnectionError:
        status = None
    assert status is None
    assert "the trap sprang" not in capfd.readouterr().err
