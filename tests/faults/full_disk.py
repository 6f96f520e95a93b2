"""Disks without room: files that the kernel refuses to fill, and a file system of a few pages."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_core.storage import TEMPORARY_MARK, join

_PAGE = 4096
_DISK_BYTES = 16 << 20
_SENTENCE = re.compile(
    r"(\w+: warning: .*\n)*"
    r"rag-beam: (?P<path>\S+): cannot be written \(No space left on device\); make room there and run the same "
    r"command again: what is whole is kept\n"
)


def no_room_at(monkeypatch: pytest.MonkeyPatch, ending: str) -> list[str]:
    """Lets the kernel refuse every write to files whose path ends so; returns the paths that it met.

    Their descriptors lead to /dev/full, so whatever writes, through whatever library, gets a true ENOSPC.
    """
    make, met = tempfile.mkstemp, []

    def make_full(prefix: str, dir: str) -> tuple[int, str]:
        descriptor, temporary = make(prefix=prefix, dir=dir)
        path = join(dir, prefix.removeprefix(".").removesuffix(TEMPORARY_MARK))
        if path.endswith(ending):
            full = os.open("/dev/full", os.O_RDWR)
            os.dup2(full, descriptor)
            os.close(full)
            met.append(path)
        return descriptor, temporary

    monkeypatch.setattr("rag_core.storage.tempfile.mkstemp", make_full)
    return met


def told_path(capsys: pytest.CaptureFixture[str]) -> str:
    """The path that the one sentence on standard error names; no other line is there but warnings."""
    text = capsys.readouterr().err
    sentence = _SENTENCE.fullmatch(text)
    assert sentence is not None, text
    return sentence["path"]


class SmallDisk:
    """A file system in memory, of which a file takes up all but what is left free."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._ballast = folder / "ballast"

    def leave(self, free: int) -> None:
        """Leaves so many bytes, in whole pages."""
        self.make_room()
        room = os.statvfs(self.folder)
        taken = room.f_bavail * room.f_frsize - free // _PAGE * _PAGE
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, taken)

    def make_room(self) -> None:
        """Takes the file away."""
        self._ballast.unlink(missing_ok=True)


def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Mounts a file system in memory at a folder and takes it away in the end; skips where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={_DISK_BYTES}", *options]), "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small file system: mounting needs root, or a user namespace (unshare -rm pytest …)")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
