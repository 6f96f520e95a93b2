"""Atomic files over an injected file system: what has a name here is whole.

Stages, indexes and training write through `Storage`, so that the same commit code serves a local
disk (`LocalStorage`) and whatever Beam's FileSystems reaches (`pipelines.filesystems`).
"""

import contextlib
import errno
import glob
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

from rag_core.errors import WriteFailed

TEMPORARY_MARK = ".tmp-"

_UMASK = os.umask(0o022)  # the umask can only be read by setting it, so once, at import
os.umask(_UMASK)


class Storage(Protocol):
    """The few operations that committing and reading need. Paths are strings: they may be URLs."""

    def open(self, path: str) -> BinaryIO:
        """Opens for reading; seekable. Raises FileNotFoundError."""
        ...

    def create(self, path: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """A file that appears under `path`, whole, when the block ends without an exception.

        Folders are made as needed; what was at `path` is replaced. On an exception nothing appears.

        Raises:
          WriteFailed: the system would not write it, whatever the block made of that.
        """
        ...

    def exists(self, path: str) -> bool:
        """Whether a file or a folder is at `path`."""
        ...

    def is_folder(self, path: str) -> bool:
        """Whether `path` is a folder (on an object store: whether anything lies below it)."""
        ...

    def size(self, path: str) -> int:
        """Bytes. Raises FileNotFoundError."""
        ...

    def stamp(self, path: str) -> str:
        """Becomes another when the file's content is changed, and may do so without. Raises FileNotFoundError."""
        ...

    def glob(self, pattern: str) -> list[str]:
        """Files that match, sorted. A path without wildcards matches itself where it exists."""
        ...

    def list_files(self, folder: str) -> list[str]:
        """Every file below `folder`, at any depth, sorted; empty where there is no such folder.

        Each path begins as `folder` is spelt, so that it equals what `join` makes.
        """
        ...

    def remove(self, path: str) -> None:
        """Removes a file or a folder with all below it; silent where there is none."""
        ...

    def held_locally(self, path: str, sha256: str | None = None) -> contextlib.AbstractContextManager[str]:
        """A path on this machine's disk with the same content, fit for memory mapping, until the block ends.

        Args:
          sha256: of the content (hex), where it is known: a copy that is made is compared with it.

        Raises:
          UsageError: what was copied is another.
        """
        ...


def join(folder: str, *names: str) -> str:
    """Joins path segments with `/`, for local paths and URLs alike."""
    return "/".join([folder.rstrip("/"), *names]) if folder != "/" else "/" + "/".join(names)


def file_sha256(storage: Storage, path: str) -> str:
    """SHA-256 (hex) of a file's bytes. Raises FileNotFoundError."""
    with storage.open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def file_name(path: str) -> str:
    """The last segment of a path or URL."""
    return path.rstrip("/").rsplit("/", 1)[-1]


def file_stem(path: str) -> str:
    """The last segment up to its first dot: `wiki_00` of `a/wiki_00.json.gz`."""
    name = file_name(path)
    return name[: name.index(".", 1)] if "." in name[1:] else name


def is_local(path: str) -> bool:
    """Whether a path is on this machine's disk."""
    return "://" not in path


def write_failure(path: str, error: OSError) -> WriteFailed:
    """One sentence of why `path` could not be written, and what to do."""
    remedy = _REMEDIES.get(error.errno or 0, "see to it that it can be written")
    return WriteFailed(
        f"{path}: cannot be written ({error.strerror or error}); {remedy} and run the same command again: what is "
        "whole is kept"
    )


_NO_ROOM = "make room there"
_REMEDIES = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EFBIG: "allow larger files (ulimit -f), or write to a file system that takes them,",
}


def is_no_room(error: OSError) -> bool:
    """Whether it can only be of a write: the disk or a quota is full, or the file too large."""
    return error.errno in _REMEDIES


@contextlib.contextmanager
def _failing_to_write(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise write_failure(path, error) from error


class _NotingFile(io.FileIO):
    """Keeps the error of a write that failed: libraries that write through it raise errors of their own."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise


def _check_entered(pattern: str) -> None:
    """Looks for what glob keeps silent about: that a folder in which the files would lie may not be entered.

    Raises:
      PermissionError: there is one.
    """
    parent = os.path.dirname(pattern)
    if parent in ("", pattern):
        return
    folders = [path for path in glob.glob(parent, recursive=True) if os.path.isdir(path)]
    for folder in folders:
        if not os.access(folder, os.R_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
    if not folders:
        _check_entered(parent)


def _raise_where_refused(error: OSError) -> None:
    if isinstance(error, PermissionError):
        raise error


class LocalStorage:
    """The disk of this machine."""

    def open(self, path: str) -> BinaryIO:
        return open(path, "rb")

    @contextlib.contextmanager
    def create(self, path: str) -> Iterator[BinaryIO]:
        folder, name = os.path.split(path)
        try:
            os.makedirs(folder or ".", exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=f".{name}{TEMPORARY_MARK}", dir=folder or ".")
        except OSError as error:
            raise write_failure(path, error) from error
        raw = _NotingFile(descriptor, "wb")
        try:
            with io.BufferedWriter(raw) as file:
                yield file
                with _failing_to_write(path):
                    file.flush()
                    os.fsync(descriptor)
            with _failing_to_write(path):
                os.chmod(temporary, 0o666 & ~_UMASK)
                os.replace(temporary, path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            if raw.failure is not None and isinstance(error, Exception):
                raise write_failure(path, raw.failure) from error
            raise

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def is_folder(self, path: str) -> bool:
        return os.path.isdir(path)

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def stamp(self, path: str) -> str:
        status = os.stat(path)
        return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"

    def glob(self, pattern: str) -> list[str]:
        if os.path.isfile(pattern):
            return [pattern]
        found = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
        if not found:
            _check_entered(pattern)
        return found

    def list_files(self, folder: str) -> list[str]:
        # os.walk keeps the folder as it was spelt, and bears with files that vanish meanwhile
        walk = os.walk(folder, onerror=_raise_where_refused)
        paths = [join(parent, name) for parent, _, names in walk for name in names]
        return sorted(path for path in paths if os.path.isfile(path))

    def remove(self, path: str) -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def held_locally(self, path: str, sha256: str | None = None) -> contextlib.AbstractContextManager[str]:
        return contextlib.nullcontext(path)
