"""Sizes and SHA-256 of an index's files: taken while they are written, compared while they are read."""

import contextlib
import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from rag_core.errors import DamagedFile, UsageError
from rag_core.storage import Storage

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileChecksum:
    """What the manifest states of one file: its size in bytes and its SHA-256 (hex)."""

    bytes: int
    sha256: str

    def to_json(self) -> dict[str, object]:
        return {"bytes": self.bytes, "sha256": self.sha256}

    @classmethod
    def from_json(cls, entry: object, where: str) -> "FileChecksum":
        """Reads a manifest's entry; `where` names it in the error.

        Raises:
          UsageError: the entry is not `{"bytes": int, "sha256": 64 hex digits}`.
        """
        size = entry.get("bytes") if isinstance(entry, Mapping) else None
        sha256 = entry.get("sha256") if isinstance(entry, Mapping) else None
        if (
            type(size) is not int
            or size < 0
            or not isinstance(sha256, str)
            or not _SHA256_HEX.fullmatch(sha256)
        ):
            raise UsageError(f"{where}: expected bytes and a sha256 of 64 hex digits, got {entry!r:.200}")
        return cls(size, sha256)


class ChecksumWriter(io.RawIOBase):
    """Passes what is written on to `file`, and knows its size and SHA-256; closing leaves `file` open."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:  # any object with a buffer
        view = memoryview(data)
        if not view.nbytes:
            return 0  # an array without rows cannot be cast
        view = view.cast("B")
        self._file.write(view)
        self._digest.update(view)
        self._bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self._bytes

    def checksum(self) -> FileChecksum:
        """Of everything written up to now."""
        return FileChecksum(self._bytes, self._digest.hexdigest())


def require_size(storage: Storage, path: str, expected: FileChecksum) -> None:
    """The check that costs nothing: the file is there and as long as the manifest says.

    Raises:
      UsageError: it is missing, or shorter or longer.
    """
    try:
        size = storage.size(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: missing, though the index's manifest names it; {_REMEDY}") from None
    if size != expected.bytes:
        raise UsageError(
            f"{path}: damaged: {size} bytes, expected {expected.bytes} from the manifest; {_REMEDY}"
        )


def require_sha256(path: str, got: str, expected: FileChecksum) -> None:
    """Compares a SHA-256 computed from the file with the manifest's.

    Raises:
      DamagedFile: they differ.
    """
    if got != expected.sha256:
        raise DamagedFile(
            f"{path}: damaged, or a file of another index: its SHA-256 is {got}, "
            f"expected {expected.sha256} from the manifest; {_REMEDY}"
        )


@contextlib.contextmanager
def proved_locally(storage: Storage, path: str, expected: FileChecksum) -> Iterator[str]:
    """A local path of the file until the block ends, read once to prove that it is the manifest's.

    Raises:
      UsageError: it is missing, of another length, or its SHA-256 is another.
    """
    require_size(storage, path, expected)
    with storage.held_locally(path, expected.sha256) as local_path:
        with open(local_path, "rb") as file:
            require_sha256(path, hashlib.file_digest(file, "sha256").hexdigest(), expected)
        yield local_path


_REMEDY = "copy the index again or rebuild it"
