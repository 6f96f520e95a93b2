"""Atomic files over an injected file system: what has a name here is whole.

Stages, indexes and training write through `Storage`, so that the same commit code serves a local
disk (`LocalStorage`) and whatever Beam's FileSystems reaches (`pipelines.filesystems`).
"""

import contextlib
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, Protocol

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

    def local_path(self, path: str) -> str:
        """A path on this machine's disk with the same content, fit for memory mapping."""
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


class LocalStorage:
    """The disk of this machine."""

    def open(self, path: str) -> BinaryIO:
        return open(path, "rb")

    @contextlib.contextmanager
    def create(self, path: str) -> Iterator[BinaryIO]:
        folder, name = os.path.split(path)
        os.makedirs(folder or ".", exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}{TEMPORARY_MARK}", dir=folder or ".")
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_UMASK)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def is_folder(self, path: str) -> bool:
        return os.path.isdir(path)

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def glob(self, pattern: str) -> list[str]:
        if os.path.isfile(pattern):
            return [pattern]
        return sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))

    def list_files(self, folder: str) -> list[str]:
        # os.walk keeps the folder as it was spelt, and bears with files that vanish meanwhile
        paths = [join(parent, name) for parent, _, names in os.walk(folder) for name in names]
        return sorted(path for path in paths if os.path.isfile(path))

    def remove(self, path: str) -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def local_path(self, path: str) -> str:
        return path
