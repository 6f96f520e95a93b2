"""Locks by the kernel, on files that their holders may remove."""

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rag_core.file_lock import lock_file

EXCLUSIVE_NOW = fcntl.LOCK_EX | fcntl.LOCK_NB


def test_one_at_a_time_or_several_that_share(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    first = lock_file(path, fcntl.LOCK_SH)
    os.close(lock_file(path, fcntl.LOCK_SH))
    with pytest.raises(BlockingIOError):
        lock_file(path, EXCLUSIVE_NOW)
    os.close(first)
    os.close(lock_file(path, EXCLUSIVE_NOW))


def test_who_waited_for_a_file_that_was_removed_has_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    held = lock_file(str(path), fcntl.LOCK_EX)
    opened: list[int] = []
    real_flock = fcntl.flock

    def flock(descriptor: int, how: int) -> None:
        opened.append(descriptor)
        if len(opened) == 1:  # the file is open; its holder ends before it is locked
            path.unlink()
            os.close(held)
        real_flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with ThreadPoolExecutor(1) as pool:
        descriptor = pool.submit(lock_file, str(path), fcntl.LOCK_EX).result(timeout=60)
    assert len(opened) == 2
    assert os.path.samestat(os.fstat(descriptor), path.stat())
    os.close(descriptor)


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        lock_file(str(tmp_path / "nowhere" / "lock"), fcntl.LOCK_EX)
