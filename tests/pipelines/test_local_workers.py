"""Worker processes are watched: with shell scripts in Beam's place and the workers'."""

import os
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from pipelines.local_workers import WorkerDied, run_with_workers


@pytest.fixture(autouse=True)
def _keep_excepthook(monkeypatch):
    """Ending the workers silences threads, as the process is to end next; this one goes on."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)


def play_worker(folder: Path, script: str, monkeypatch) -> None:
    """Puts a shell script in the place of the workers' Python."""
    python = folder / "my venv" / "python"  # the command line goes through a shell: spaces must not hurt
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\ncd {shlex.quote(str(folder))}\n{script}")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))


def start_two(runner: FnApiRunner) -> None:
    """What Beam's runner does: starts its workers, and waits for them."""
    command = runner._default_environment.command_string
    for worker in [subprocess.Popen(command, shell=True) for _ in range(2)]:
        worker.wait()


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not Path(f"/proc/{pid}").exists()


def test_workers_that_end_well_are_no_news(tmp_path, monkeypatch, capfd):
    play_worker(tmp_path, 'echo "$@" >> arguments; echo hello >&2', monkeypatch)
    run_with_workers(start_two, [])
    assert (tmp_path / "arguments").read_text() == "-m pipelines.worker\n" * 2
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "last, told",
    [
        ("exit 3", "a worker process ended with status 3. "),
        ("kill -9 $$", "was killed by signal 9 (the system kills what takes too much memory). "),
        ("kill -11 $$", "was killed by signal 11. "),
    ],
)
def test_one_that_dies_ends_the_run_and_the_others(tmp_path, monkeypatch, capfd, last, told):
    script = (
        f"if mkdir first 2>/dev/null; then echo farewell >&2; {last}; fi\necho $$ > second; exec sleep 60"
    )
    play_worker(tmp_path, script, monkeypatch)
    began = time.monotonic()
    with pytest.raises(WorkerDied) as death:
        run_with_workers(start_two, [])
    assert time.monotonic() - began < 20
    assert told in str(death.value)
    assert "farewell" in capfd.readouterr().err
    if (tmp_path / "second").exists():  # else it had not begun when all were ended
        assert is_gone(int((tmp_path / "second").read_text() or 0))


def test_an_interruption_ends_the_workers_first(tmp_path, monkeypatch):
    """They would go on in a folder whose lock is given back."""
    play_worker(tmp_path, "echo $$ > $$.pid; exec sleep 60", monkeypatch)

    class Interruption(BaseException):
        pass

    join = threading.Thread.join

    def join_until_both_run(self, timeout=None):
        if len(list(tmp_path.glob("*.pid"))) == 2:
            raise Interruption
        join(self, timeout)

    monkeypatch.setattr(threading.Thread, "join", join_until_both_run)
    with pytest.raises(Interruption):
        run_with_workers(start_two, [])
    pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert all(is_gone(pid) for pid in pids)


def test_the_pipelines_own_failure_is_passed_on():
    def fail(runner: FnApiRunner) -> None:
        raise ZeroDivisionError("in a unit")

    with pytest.raises(ZeroDivisionError, match="in a unit"):
        run_with_workers(fail, [])
