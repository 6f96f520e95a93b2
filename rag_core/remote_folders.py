"""Folders on an object store, copied to this machine's disk for libraries that open files by their paths."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator

from rag_core.errors import UsageError
from rag_core.file_lock import lock_file
from rag_core.storage import Storage, file_name, is_local, join

_COPY_BYTES = 8 << 20
_reached: Storage | None = None


def reach_with(storage: Storage) -> None:
    """Says what opens paths that are not local, for those who are given a path alone: the loading of models."""
    global _reached
    _reached = storage


def brought(folder: str) -> str:
    """`local_folder` by what `reach_with` was given.

    Raises:
      UsageError: nothing lies there, or nothing reaches it.
    """
    if _reached is None:
        raise UsageError(f"{folder}: is not on this machine's disk; copy it there and give its path")
    return local_folder(_reached, folder)


def copies_folder() -> str:
    """Where this user's copies lie on this machine."""
    return os.path.join(tempfile.gettempdir(), f"rag-beam-{os.getuid()}")


def local_folder(storage: Storage, folder: str) -> str:
    """A local folder as it is; of another a copy, made once for all processes while no file of it changes.

    The copy of what lay there before is removed.

    Raises:
      UsageError: nothing lies there.
    """
    if is_local(folder):
        return folder
    files = storage.list_files(folder)
    if not files:
        raise UsageError(f"{folder}: no such folder; give one that holds files")
    kept = os.path.join(copies_folder(), "folders", _name([folder.rstrip("/")]))
    version = os.path.join(kept, _name([file + storage.stamp(file) for file in files]))
    os.makedirs(kept, mode=0o700, exist_ok=True)
    with _alone(f"{kept}.lock"):
        if not os.path.isdir(version):
            shutil.rmtree(kept)
            part = f"{version}.part"
            for file in files:
                copy = os.path.join(part, file_name(folder), file.removeprefix(join(folder, "")))
                os.makedirs(os.path.dirname(copy), exist_ok=True)
                with storage.open(file) as remote, open(copy, "wb") as local:
                    shutil.copyfileobj(remote, local, _COPY_BYTES)
            os.rename(part, version)
    return os.path.join(version, file_name(folder))


def _name(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    lock = lock_file(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)
