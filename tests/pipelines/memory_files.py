"""A file system of Beam's in memory, `mem://`: an object store as Beam sees it, to test against.

As in a real one, an object appears when its upload is closed, whatever closes it; names are keys and
there are no folders.
"""

import hashlib
import io
import itertools
from collections.abc import Iterator

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata, FileSystem

# path -> (content, when it was put); shared by all instances, since Beam makes one for each call
OBJECTS: dict[str, tuple[bytes, float]] = {}
_CLOCK = itertools.count(1)


class MemoryFileSystem(FileSystem):
    """Objects in a dict."""

    @classmethod
    def scheme(cls) -> str:
        return "mem"

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        pass

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for path in sorted(OBJECTS):
            if path.startswith(dir_or_prefix):
                yield self.metadata(path)

    def create(self, path, mime_type="", compression_type=CompressionTypes.AUTO) -> "Upload":
        return Upload(path)

    def open(self, path, mime_type="", compression_type=CompressionTypes.AUTO) -> io.BytesIO:
        return io.BytesIO(self._content(path))

    def copy(self, source_file_names, destination_file_names) -> None:
        raise NotImplementedError

    def rename(self, source_file_names, destination_file_names) -> None:
        raise NotImplementedError

    def exists(self, path: str) -> bool:
        return path in OBJECTS

    def size(self, path: str) -> int:
        return len(self._content(path))

    def last_updated(self, path: str) -> float:
        return OBJECTS[path][1]

    def checksum(self, path: str) -> str:
        return hashlib.md5(self._content(path)).hexdigest()

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, self.size(path), self.last_updated(path))

    def delete(self, paths) -> None:
        missing = {path: FileNotFoundError(path) for path in paths if OBJECTS.pop(path, None) is None}
        if missing:
            raise BeamIOError("Delete operation failed", missing)

    def _content(self, path: str) -> bytes:
        if path not in OBJECTS:
            raise BeamIOError("No such object", {path: FileNotFoundError(path)})
        return OBJECTS[path][0]


class Upload(io.BytesIO):
    """Puts what was written when it is closed."""

    def __init__(self, path: str):
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            OBJECTS[self._path] = self.getvalue(), float(next(_CLOCK))
        super().close()
