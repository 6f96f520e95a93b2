"""Processes of a cluster: found again by later commands, kept where asked for, ended with all that they started."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.flink.processes import Processes


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.stop()


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.02)


def test_what_was_started_is_found_again_and_stopped(tmp_path: Path, processes: Processes) -> None:
    processes.start("shell", ["bash", "-c", "echo here; sleep 600 & wait"])
    again = Processes(tmp_path)
    started = again.living()["shell"]
    wait_for(lambda: len(started.members()) == 1)
    [sleep] = started.members()
    again.start("shell", ["false"])  # it lives: nothing is done
    assert Processes(tmp_path).living() == {"shell": started}
    again.stop()
    assert not Path(f"/proc/{sleep}").exists() or "Z" in Path(f"/proc/{sleep}/stat").read_text()
    assert processes.started() == {}
    assert again.log("shell").read_text().startswith("here\n")


def test_one_that_died_is_told_and_started_anew(processes: Processes) -> None:
    processes.start("sleep", ["sleep", "600"])
    first = processes.living()["sleep"]
    first.kill()
    wait_for(lambda: not first.lives)
    assert processes.living() == {}
    assert processes.started() == {"sleep": first}
    processes.start("sleep", ["sleep", "600"])
    assert processes.living()["sleep"] != first


def test_one_that_is_kept_comes_back(processes: Processes) -> None:
    processes.start("kept", ["sleep", "600"], keep=True)
    keeper = processes.living()["kept"]
    wait_for(lambda: len(keeper.members()) == 1)
    [first] = keeper.members()
    os.kill(first, signal.SIGKILL)
    # between the two the keeper has a pause, which is a process of its group, too
    wait_for(lambda: any(b"600" in command_of(pid) for pid in keeper.members() if pid != first))
    assert processes.living() == {"kept": keeper}


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
