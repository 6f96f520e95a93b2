"""After any end, the same command computes only what is missing, and the result is the undisturbed one."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from pipelines.dataset.target import WORK
from rag_core.storage import TEMPORARY_MARK
from tests.pipelines.dataset.running import (
    SOURCES,
    UNITS,
    committed_units,
    content,
    flip_a_bit,
    run,
    unit_file,
)
from tests.pipelines.dataset.small_stage import Sources, computed, set_trap


@pytest.fixture
def undisturbed(finished) -> dict[str, bytes]:
    """The files of a run that nothing happened to."""
    return without_manifest(finished / "out")


def without_manifest(output: Path) -> dict[str, bytes]:
    """The files of a finished folder; of the manifest only what does not tell paths."""
    files = content(output)
    manifest = json.loads(files.pop("manifest.json"))
    kept = {key: manifest[key] for key in ("parts", "fingerprint", "counts", "settings")}
    return files | {"manifest.json": json.dumps(kept).encode()}


def fail_at(folder: Path, unit: str) -> list[str]:
    """Runs until a trap springs in `unit`; returns the units that were committed before."""
    trap = set_trap(folder / "trap.json", unit, "raise")
    assert run(folder, "--trap", str(trap)) == 1
    trap.unlink()
    return committed_units(folder / "out")


@pytest.mark.parametrize("unit", UNITS)
def test_a_rerun_computes_only_what_is_missing(tmp_path, undisturbed, unit, capsys):
    committed = fail_at(tmp_path, unit)
    assert (
        f"unit {int(unit[0]):05d}-{int(unit[2]):06d} (even-{unit[0]}.txt and 1 more files): RuntimeError: the "
        in (capsys.readouterr().err)
    )
    assert unit not in committed
    assert set(committed) == set(computed(tmp_path / "records.json")) - {unit}
    assert run(tmp_path) == 0
    times = Counter(computed(tmp_path / "records.json"))
    assert times == Counter({name: 2 if name == unit else 1 for name in UNITS})
    assert without_manifest(tmp_path / "out") == undisturbed


def test_a_complete_folder_has_nothing_to_do(finished, capsys):
    before = content(finished / "out")
    assert run(finished) == 0
    assert f"records: nothing to do, {finished / 'out'} is complete" in capsys.readouterr().out
    assert len(computed(finished / "records.json")) == len(UNITS)
    assert content(finished / "out") == before


@pytest.mark.parametrize("harm", ["truncated", "emptied", "flipped", "of another unit"])
def test_a_damaged_unit_is_computed_again(stopped, undisturbed, harm):
    committed = committed_units(stopped / "out")
    victim = unit_file(stopped / "out", committed[0])
    whole = victim.read_bytes()
    if harm == "truncated":
        victim.write_bytes(whole[:-20])
    elif harm == "emptied":
        victim.write_bytes(b"")
    elif harm == "flipped":
        flip_a_bit(victim)
    else:
        victim.write_bytes(unit_file(stopped / "out", committed[1]).read_bytes())
    assert run(stopped) == 0
    assert Counter(computed(stopped / "records.json")) == {"0-0": 2, "0-1": 1, "1-0": 2}
    assert without_manifest(stopped / "out") == undisturbed


def test_temporaries_of_a_killed_writer_are_removed(stopped, undisturbed):
    for name in ["part-00000-00000.parquet", f"{WORK}/units/00000-000001.parquet", f"{WORK}/plan.json"]:
        path = stopped / "out" / name
        (path.parent / f".{path.name}{TEMPORARY_MARK}abc").write_bytes(b"half")
    assert run(stopped) == 0
    assert without_manifest(stopped / "out") == undisturbed


def test_a_run_killed_at_its_first_file_is_no_stranger(tmp_path, undisturbed):
    (tmp_path / "out" / WORK).mkdir(parents=True)
    (tmp_path / "out" / WORK / f".plan.json{TEMPORARY_MARK}abc").write_bytes(b"{")
    assert run(tmp_path) == 0
    assert without_manifest(tmp_path / "out") == undisturbed


def test_a_run_killed_after_its_manifest_is_complete(finished, stopped, undisturbed, capsys):
    shutil.copytree(stopped / "out" / WORK, finished / "out" / WORK)
    assert run(finished) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert without_manifest(finished / "out") == undisturbed


def test_a_part_that_was_damaged_before_the_manifest_is_assembled_again(tmp_path):
    """A flood leaves parts without a manifest; one that changed meanwhile must not be certified."""
    sources: Sources = [*SOURCES, [[[f"r{number}", 1, "bad_row"] for number in range(200)]]]
    assert run(tmp_path, sources=sources) == 1
    flip_a_bit(tmp_path / "out" / "part-00000-00000.parquet")
    assert run(tmp_path, "--max_rejects", "1") == 0
    assert run(tmp_path, "--max_rejects", "1", output="undisturbed") == 0
    assert without_manifest(tmp_path / "out") == without_manifest(tmp_path / "undisturbed")


def test_a_run_that_stopped_while_assembling_keeps_the_parts_it_made(tmp_path, undisturbed, monkeypatch):
    from pipelines.transforms import units

    assemble = units.assemble_part
    made = []

    def fail_at_the_second(storage, target, plan):
        if made:
            raise OSError("the disk is full")
        made.append(plan.name)
        return assemble(storage, target, plan)

    monkeypatch.setattr(units, "assemble_part", fail_at_the_second)
    assert run(tmp_path) == 1
    kept = tmp_path / "out" / made[0]
    written = kept.stat().st_mtime_ns
    monkeypatch.undo()
    assert run(tmp_path) == 0
    assert kept.stat().st_mtime_ns == written
    assert len(computed(tmp_path / "records.json")) == len(UNITS)
    assert without_manifest(tmp_path / "out") == undisturbed
