"""One run at a time on a local output folder."""

import contextlib
import datetime
import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator

from pipelines.dataset.target import LOCK
from rag_core.errors import UsageError
from rag_core.file_lock import lock_file
from rag_core.storage import is_local, is_no_room, write_failure


class LockedFolder(UsageError):
    """Another run works on the folder; the message names it."""


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Holds the folder's lock. The kernel gives a dead run's lock back, so none is ever stale.

    Folders on an object store have no lock: there, units and parts are put whole under names
    that depend on their content, so that two runs of the same target do the same work twice.

    Raises:
      LockedFolder: another process holds it.
      UsageError: the folder cannot be made or written.
      WriteFailed: the disk is full.
    """
    if not is_local(folder):
        yield
        return
    if os.path.isfile(folder):
        raise UsageError(f"--output {folder}: is a file; give a folder")
    path = os.path.join(folder, LOCK)
    try:
        os.makedirs(folder, exist_ok=True)
        descriptor = lock_file(path, fcntl.LOCK_EX | fcntl.LOCK_NB, 0o666)
    except BlockingIOError:
        raise LockedFolder(
            f"--output {folder}: {_holder(path)} is working on it; wait for it, or give another folder"
        ) from None
    except OSError as error:
        if is_no_room(error):
            raise write_failure(path, error) from error
        raise UsageError(f"--output {folder}: cannot be written ({error.strerror})") from error
    try:
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])[:200],
        }
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        try:
            _remove(path, descriptor)
        except BaseException:  # interrupted at this very moment
            _remove(path, descriptor)
            raise
        finally:
            os.close(descriptor)


def _remove(path: str, descriptor: int) -> None:
    """Removes the lock that is held, and none that another run has made since."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            os.unlink(path)


def _holder(path: str) -> str:
    """Who wrote its name into the lock; it may have ended by now."""
    try:
        with open(path, encoding="utf-8") as file:
            holder = json.load(file)
        return f"process {holder['pid']} on {holder['host']} (since {holder['since']}: {holder['command']})"
    except (OSError, ValueError, KeyError):
        return "another run"
