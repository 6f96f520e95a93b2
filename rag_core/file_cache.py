"""Copies of files that lie elsewhere, on this machine's disk: made once for all its processes, bounded in bytes.

A folder of entries: `KEY` is the copy, `KEY.part` one that is being made, `KEY.lock` is locked by the kernel,
shared by who uses the copy, exclusively by who makes or removes it, and its time tells when it was last used.
`.room` is locked while room is made. The kernel gives a dead process's locks back, so what a killed one left
is removed like anything else.
"""

import contextlib
import errno
import fcntl
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import BinaryIO

from rag_core.errors import UsageError, WriteFailed
from rag_core.file_lock import lock_file
from rag_core.storage import is_no_room

_LEFT_FREE = 0.1  # of what the disk has for copies, where nobody says how many bytes
_PART, _LOCK, _ROOM = ".part", ".lock", ".room"


class _Thread(threading.local):
    def __init__(self) -> None:
        self.held = [0]  # a list: a generator that holds a copy may be closed by another thread


_thread = _Thread()


class FileCache:
    """A folder of copies, of which the least recently used go first, and none that is in use."""

    def __init__(self, folder: str, most_bytes: int | None = None) -> None:
        """Stores where and how much.

        Args:
          folder: on a local disk; made when it is needed.
          most_bytes: of all copies together; None: nine tenths of what the disk has for them.
        """
        self._folder = folder
        self._most_bytes = most_bytes

    @contextlib.contextmanager
    def held(self, key: str, size: int, fetch: Callable[[BinaryIO], None], name: str) -> Iterator[str]:
        """The path of the copy under `key`, which stays until the block ends.

        Where others use all the room, it waits until one of them ends.

        Args:
          key: tells the content; a file name.
          size: of the file in bytes.
          fetch: writes the bytes, where there is no copy; raises where they are not the right ones.
          name: what messages call the file.

        Raises:
          UsageError: the file is larger than all copies may be; or this thread uses another copy that others
            may be waiting for, so that it must not wait.
          WriteFailed: the disk is full.
        """
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            lock = self._use(key, size, fetch, name)
        except OSError as error:
            if error.filename is None and not is_no_room(error):
                raise  # of what is fetched
            raise self._failure(error) from error
        held = _thread.held
        held[0] += 1
        try:
            yield self._path(key)
        finally:
            held[0] -= 1
            os.utime(lock)
            os.close(lock)

    def drop(self, key: str) -> None:
        """Removes a copy that is damaged. Call it where it is held; others keep what they have mapped."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(key))

    def _use(self, key: str, size: int, fetch: Callable[[BinaryIO], None], name: str) -> int:
        """Sees to it that the copy is there, and returns the descriptor of its lock, shared."""
        while True:
            lock = self._locked(key + _LOCK, fcntl.LOCK_SH)
            if self._is_there(key, size):
                os.utime(lock)
                return lock
            os.close(lock)
            lock = self._locked(key + _LOCK, fcntl.LOCK_EX)
            try:
                # another may have made it before the lock was had
                in_the_way = None if self._is_there(key, size) else self._copy(key, size, fetch, name)
                os.utime(lock)
            finally:
                os.close(lock)
            if in_the_way is not None:
                if _thread.held[0]:
                    raise UsageError(
                        f"{self._folder}: all copies there are in use, and one of {name} ({size} bytes) is needed "
                        "beside them; give more --shard_cache_bytes, or fewer workers a machine"
                    )
                os.close(self._locked(in_the_way + _LOCK, fcntl.LOCK_EX))  # had when it is no longer in use

    def _copy(self, key: str, size: int, fetch: Callable[[BinaryIO], None], name: str) -> str | None:
        """Makes a copy, its lock held; returns what is in use and in the way where there is no room."""
        part = self._path(key) + _PART
        try:
            in_the_way = self._reserve(key, size, name)
            if in_the_way is None:
                with open(part, "r+b") as file:
                    fetch(file)
                os.replace(part, self._path(key))
            return in_the_way
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)

    def _reserve(self, key: str, size: int, name: str) -> str | None:
        """Makes `KEY.part` of `size` bytes, others removed for it; returns what is in use and in the way."""
        for suffix in ("", _PART):  # of another size, so damaged; of a process that was killed
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(key) + suffix)
        room = self._locked(_ROOM, fcntl.LOCK_EX)
        try:
            entries = self._entries()
            total = sum(entries.values())
            allowed = self._allowed(total)
            if size > allowed:
                raise UsageError(
                    f"--shard_cache_bytes {allowed}: {name} has {size} bytes, and a copy of it is needed in "
                    f"{self._folder}; give at least as many, or another --shard_cache_dir on a larger disk"
                )
            in_use = []
            removable = iter(sorted(entries, key=self._last_used))
            while True:
                if total + size <= allowed:
                    with contextlib.suppress(_DiskFull):
                        self._allocate(key, size)
                        return None
                entry = next(removable, None)
                if entry is None:
                    break
                if self._remove(entry):
                    total -= entries[entry]
                else:
                    in_use.append(entry)
            if in_use:
                return in_use[0]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(room)

    def _allocate(self, key: str, size: int) -> None:
        """Takes the bytes from the disk before they are fetched."""
        path = self._path(key) + _PART
        try:
            with open(path, "wb") as file:
                if size:
                    os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            os.unlink(path)
            if is_no_room(error):
                raise _DiskFull from error
            raise

    def _remove(self, key: str) -> bool:
        """Removes a copy and what was left of making one, unless it is in use."""
        try:
            lock = self._locked(key + _LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            for suffix in ("", _PART, _LOCK):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path(key) + suffix)
        finally:
            os.close(lock)
        return True

    def _locked(self, name: str, how: int) -> int:
        """A descriptor of a file of the folder, locked."""
        return lock_file(self._path(name), how)

    def _entries(self) -> dict[str, int]:
        """Bytes of each key's copies, whole or not."""
        sizes: dict[str, int] = defaultdict(int)
        for file in os.scandir(self._folder):
            if file.name != _ROOM and not file.name.endswith(_LOCK):
                with contextlib.suppress(FileNotFoundError):
                    sizes[file.name.removesuffix(_PART)] += file.stat().st_size
        return sizes

    def _allowed(self, total: int) -> int:
        if self._most_bytes is not None:
            return self._most_bytes
        disk = os.statvfs(self._folder)
        return int((disk.f_bavail * disk.f_frsize + total) * (1 - _LEFT_FREE))

    def _last_used(self, key: str) -> int:
        try:
            return os.stat(self._path(key) + _LOCK).st_mtime_ns
        except FileNotFoundError:
            return 0

    def _is_there(self, key: str, size: int) -> bool:
        try:
            return os.stat(self._path(key)).st_size == size
        except FileNotFoundError:
            return False

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _failure(self, error: OSError) -> Exception:
        if is_no_room(error):
            return WriteFailed(
                f"{self._folder}: has no room for a copy ({error.strerror}); make room there, or give another "
                "--shard_cache_dir, and run the same command again: what is whole is kept"
            )
        return UsageError(f"--shard_cache_dir {self._folder}: cannot be written ({error.strerror or error})")


class _DiskFull(Exception):
    """The disk has fewer bytes than are allowed."""
