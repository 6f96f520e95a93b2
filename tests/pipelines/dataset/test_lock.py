"""One run at a time on a folder, and no lock that outlives its run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.dataset.lock import LockedFolder, locked
from pipelines.dataset.target import LOCK
from rag_core.errors import UsageError
from tests.pipelines.dataset.running import run

_HOLD = (
    "import sys, time\n"
    "from pipelines.dataset.lock import locked\n"
    "with locked(sys.argv[1]):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(60)\n"
)


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the lock of `out`."""
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_run_is_refused_and_a_killed_ones_lock_is_taken_over(tmp_path, holder, capsys):
    assert run(tmp_path) == 2
    message = capsys.readouterr().err
    assert f"process {holder.pid} on " in message
    assert "is working on it" in message
    assert message.count("\n") == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == [LOCK]

    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "out" / LOCK).exists()  # nobody was left to remove it
    assert run(tmp_path) == 0
    assert not (tmp_path / "out" / LOCK).exists()


def test_the_lock_is_there_while_it_is_held_and_gone_afterwards(tmp_path):
    folder = str(tmp_path / "new" / "out")
    with locked(folder):
        assert str(os.getpid()) in Path(folder, LOCK).read_text()
        with pytest.raises(LockedFolder, match=f"process {os.getpid()} on"), locked(folder):
            pass
        assert Path(folder, LOCK).exists()  # the refused one did not remove it
    assert os.listdir(folder) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_gives_the_lock_back(tmp_path, error):
    with pytest.raises(error), locked(str(tmp_path)):
        raise error
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("left", [b"", b"{", b'{"pid": 1}'], ids=["empty", "half", "of another version"])
def test_whatever_a_dead_run_left_in_its_lock_can_be_taken_over(tmp_path, left):
    (tmp_path / LOCK).write_bytes(left)
    with locked(str(tmp_path)):
        assert str(os.getpid()) in (tmp_path / LOCK).read_text()
    assert os.listdir(tmp_path) == []


def test_a_lock_that_cannot_be_read_is_another_runs(tmp_path):
    with locked(str(tmp_path)):
        (tmp_path / LOCK).write_bytes(b"{")
        with pytest.raises(LockedFolder, match="another run is working on it"), locked(str(tmp_path)):
            pass


def test_a_lock_whose_file_was_removed_meanwhile_is_sought_again(tmp_path, monkeypatch):
    """Between open and flock the holder may end and remove the file: the lock would be on nothing."""
    import fcntl

    flock, removed = fcntl.flock, []

    def remove_first(descriptor, operation):
        if not removed:
            removed.append((tmp_path / LOCK).unlink())
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with locked(str(tmp_path)):
        assert (tmp_path / LOCK).exists()
        with pytest.raises(LockedFolder), locked(str(tmp_path)):
            pass


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for folder in ("file", "file/below"):
        with pytest.raises(UsageError, match=f"--output .*{folder}: "), locked(str(tmp_path / folder)):
            pass


def test_object_stores_have_no_lock():
    with locked("mem://bucket/out"), locked("mem://bucket/out"):
        assert not Path("mem:").exists()


def test_an_interruption_while_the_lock_is_given_back_leaves_none(tmp_path, monkeypatch):
    unlink, struck = os.unlink, []

    def interrupted(path):
        if not struck:
            struck.append(path)
            raise KeyboardInterrupt
        unlink(path)

    with pytest.raises(KeyboardInterrupt), locked(str(tmp_path)):
        monkeypatch.setattr(os, "unlink", interrupted)
    assert struck == [str(tmp_path / LOCK)]
    assert not (tmp_path / LOCK).exists()


def test_the_lock_of_another_run_is_not_removed(tmp_path):
    with locked(str(tmp_path)):
        (tmp_path / LOCK).unlink()
        (tmp_path / LOCK).write_text("another's")
    assert (tmp_path / LOCK).read_text() == "another's"
