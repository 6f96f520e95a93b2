"""How a command runs and ends: its status, its sentence, its signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from pipelines import launch
from pipelines.dataset.target import WORK, Target
from pipelines.launch import Stage, Task
from pipelines.runners import is_in_process, pipeline_options
from pipelines.transforms.units import MakeDataset
from rag_core.storage import join
from tests.pipelines.commands import manifest_of, read_rejects, read_table
from tests.pipelines.dataset.running import UNITS, argv, committed_units, run
from tests.pipelines.dataset.small_stage import (
    STAGE,
    CopyPassages,
    ListRecords,
    RecordsSettings,
    Sources,
    computed,
    prepare,
    set_trap,
    target_of,
    write_records,
)

_MAIN = "from tests.pipelines.dataset.small_stage import main; raise SystemExit(main())"
_ROOT = Path(__file__).parents[2]


def start(folder: Path, trap: Path, *more: str) -> subprocess.Popen:
    """Runs the small stage in a process of its own until it falls into the trap."""
    command = [sys.executable, "-c", _MAIN, *argv(folder, "--trap", str(trap), *more)]
    (folder / "temporary").mkdir()
    process = subprocess.Popen(
        command,
        cwd=_ROOT,
        env=os.environ | {"TMPDIR": str(folder / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not Path(f"{trap}.reached").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if not Path(f"{trap}.reached").exists():
        process.kill()
        raise AssertionError(process.communicate())
    return process


def end(process: subprocess.Popen) -> tuple[str, str]:
    """What a process wrote to stdout and stderr until it ended: before its unit, which would take ten minutes."""
    try:
        return process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("heeded_interrupts")
@pytest.mark.parametrize(
    "signum, status, told, at_once",
    [(signal.SIGINT, 130, "interrupted", "1"), (signal.SIGTERM, 143, "terminated", "2")],
    ids=["SIGINT", "SIGTERM, two units at work"],
)
def test_a_signal_ends_at_once_with_its_status_and_a_rerun_goes_on(tmp_path, signum, status, told, at_once):
    trap = set_trap(tmp_path / "trap.json", "1-0", "wait")
    process = start(tmp_path, trap, "--units_at_once", at_once)
    process.send_signal(signum)
    out, err = end(process)
    assert process.returncode == status
    assert err == f"rag-beam: {told}; what is whole is kept, the same command goes on from there\n"
    assert out == ""
    assert not (tmp_path / "out" / ".lock").exists()
    assert left_behind(tmp_path) == []
    goes_on(tmp_path, trap)


def left_behind(folder: Path) -> list[str]:
    """What a process that `start` started has left in its folder for temporary files."""
    return [path.name for path in (folder / "temporary").iterdir()]


def goes_on(folder: Path, trap: Path) -> None:
    """A rerun without the trap computes what is not committed, and finishes."""
    trap.unlink()
    kept = committed_units(folder / "out")
    assert "1-0" not in kept
    before = computed(folder / "records.json")
    assert run(folder) == 0
    assert sorted(computed(folder / "records.json")[len(before) :]) == sorted(set(UNITS) - set(kept))


def test_a_worker_that_is_killed_ends_the_run_and_its_unit_is_named(tmp_path):
    """Beam's runner would wait for it for ever."""
    trap = set_trap(tmp_path / "trap.json", "1-0", "wait")
    process = start(tmp_path, trap, "--direct_num_workers", "2")
    worker = int(Path(f"{trap}.reached").read_text())
    assert worker != process.pid
    os.kill(worker, signal.SIGKILL)
    _, err = end(process)
    assert process.returncode == 1
    told = err.splitlines()[-1]
    assert told.startswith("rag-beam: a worker process was killed by signal 9 ")
    assert "while it computed unit 00001-000000 (even-1.txt and 1 more files)." in told
    assert left_behind(tmp_path) == []
    goes_on(tmp_path, trap)


def test_workers_end_with_an_interrupted_launcher(tmp_path):
    """A worker that went on would work on a folder whose lock is free."""
    trap = set_trap(tmp_path / "trap.json", "1-0", "wait")
    process = start(tmp_path, trap, "--direct_num_workers", "2")
    worker = int(Path(f"{trap}.reached").read_text())
    process.send_signal(signal.SIGTERM)
    _, err = end(process)
    assert process.returncode == 143
    assert err == "rag-beam: terminated; what is whole is kept, the same command goes on from there\n"
    deadline = time.monotonic() + 60
    while Path(f"/proc/{worker}/stat").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}/stat").exists()
    assert left_behind(tmp_path) == []


def test_sigterm_is_given_back_to_whoever_had_it():
    before = signal.getsignal(signal.SIGTERM)
    with launch.exit_status():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_says_what_it_did(tmp_path, capsys):
    assert run(tmp_path) == 0
    assert capsys.readouterr().out == (
        f"records: {tmp_path / 'out'}: 9 read, 6 accepted, 1 left out (redirect 1), "
        "2 rejected (duplicate_id 2), 9 rows written\n"
    )


def test_an_error_that_is_not_ours_keeps_its_traceback(tmp_path, monkeypatch):
    def broken(settings, workers):
        raise ZeroDivisionError

    stage = Stage("broken", RecordsSettings, "", "", "", "", broken)
    with pytest.raises(ZeroDivisionError):
        stage.main(argv(tmp_path))


@pytest.mark.parametrize(
    "beam_args, workers",
    [([], 1), (["--direct_num_workers=3"], 3), (["--direct_num_workers", "0"], os.cpu_count())],
)
def test_a_stage_learns_how_many_workers_share_the_cores(tmp_path, beam_args, workers):
    told = []

    def spy(settings, workers):
        told.append(workers)
        raise launch.WorkFailed("far enough")

    stage = Stage("spy", RecordsSettings, "", "", "", "", spy)
    assert stage.main([*argv(tmp_path), *beam_args]) == 1
    assert told == [workers]


def test_the_in_process_runner_is_chosen_so_that_nothing_is_downloaded(capsys):
    for beam_args in ([], ["--runner=DirectRunner"], ["--runner=FnApiRunner"]):
        assert is_in_process(pipeline_options(beam_args))
    assert capsys.readouterr().err.count("in-process runner (FnApiRunner)") == 1
    assert not is_in_process(pipeline_options(["--runner=FlinkRunner"]))


def two_tasks(folder: Path, sources: Sources, max_rejects: float) -> Stage:
    """A stage that lists records first, and copies their rows to its output."""
    write_records(folder / "records.json", sources)

    def prepare_both(settings: RecordsSettings, workers: int) -> list[Task]:
        [listing] = prepare(settings, workers)
        first = Target(
            folder=join(settings.output, WORK, "first"),
            table="passages",
            stage="both",
            settings=listing.target.settings,
            inputs=listing.target.inputs,
            max_rejects=max_rejects,
        )
        output = Target(
            folder=settings.output,
            table="passages",
            stage="both",
            settings={"copied": True},
            inputs=listing.target.inputs,
            max_rejects=settings.max_rejects,
            carried=(first.folder,),
        )
        return [
            Task(first, MakeDataset(first, ListRecords(settings.records, trap=settings.trap))),
            Task(output, "Copy" >> MakeDataset(output, CopyPassages(first.folder))),
        ]

    return Stage("both", RecordsSettings, "", "", "", "", prepare_both)


FEW_REJECTS: Sources = [[[["a", 2, "accept"], ["b", 1, "bad_row"], ["c", 1, "redirect"], ["d", 1, "accept"]]]]


def test_what_an_earlier_task_lost_is_in_the_outputs_ledger(tmp_path):
    assert two_tasks(tmp_path, FEW_REJECTS, 1.0).main(argv(tmp_path)) == 0
    counts = manifest_of(tmp_path / "out").counts
    assert counts.read == 4
    assert counts.left_out == {"redirect": 1}
    assert counts.rejected == {"bad_row": 1}
    assert read_table(tmp_path / "out").column("passage_id").to_pylist() == ["a", "a/1", "d"]
    assert [row["record_id"] for row in read_rejects(tmp_path / "out")] == ["b"]
    assert not (tmp_path / "out" / WORK).exists()


def test_a_flood_in_an_earlier_task_is_told_as_such_and_ends_there(tmp_path, capsys):
    sources: Sources = [[[[f"r{number}", 1, "bad_row" if number < 5 else "accept"] for number in range(105)]]]
    assert two_tasks(tmp_path, sources, 0.01).main(argv(tmp_path)) == 1
    assert "5 of 105 records were rejected" in capsys.readouterr().err
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_an_earlier_task_that_is_complete_is_not_done_again(tmp_path, monkeypatch):
    stage = two_tasks(tmp_path, FEW_REJECTS, 1.0)
    monkeypatch.setattr(CopyPassages, "compute", _fail)
    assert stage.main(argv(tmp_path)) == 1
    monkeypatch.undo()
    assert stage.main(argv(tmp_path)) == 0
    assert computed(tmp_path / "records.json") == ["0-0"]


def _fail(self, unit, loaded, writer):
    raise RuntimeError("not this time")


def test_a_pipeline_of_ones_own_can_hold_the_transform(tmp_path):
    """The transforms are for others' pipelines too: no launcher, no options."""
    settings = RecordsSettings(
        records=str(write_records(tmp_path / "records.json", FEW_REJECTS)), output=str(tmp_path / "out")
    )
    target = target_of(settings)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        folders = pipeline | beam.Create(["go"]) | MakeDataset(target, ListRecords(settings.records))
        folders | beam.Map(_write_down, str(tmp_path / "made"))
    assert (tmp_path / "made").read_text() == settings.output
    assert manifest_of(settings.output).rows == 3


def _write_down(folder: str, path: str) -> None:
    Path(path).write_text(folder)


def test_the_parser_is_the_settings(tmp_path):
    settings, beam_args = STAGE.parse([*argv(tmp_path), "--direct_num_workers", "2"])
    assert settings.output == str(tmp_path / "out")
    assert beam_args == ["--direct_num_workers", "2"]
