"""`rag_core.storage.Storage` over Beam's FileSystems: `gs://`, `s3://`, `hdfs://` and local paths."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from rag_core.errors import UsageError
from rag_core.storage import LocalStorage, Storage, file_name, is_local, is_no_room, write_failure

_COPY_BYTES = 8 << 20


def _on_disk(path: str) -> bool:
    """Whether LocalStorage has it; raises UsageError where no file system is installed for its scheme."""
    if is_local(path):
        return True
    try:
        FileSystems.get_filesystem(path)
    except ValueError as error:
        raise UsageError(
            f"{path}: no file system is installed for it; gs:// needs pip install 'rag-beam[gcp]', "
            "s3:// needs pip install 'rag-beam[aws]'"
        ) from error
    return False


class BeamStorage:
    """Every path that Beam reads. Local ones go to the disk directly, where renaming is atomic.

    On an object store an object appears when its upload is complete, so a file is written to the
    local disk first and put once: a writer that dies half-way leaves nothing.
    """

    def __init__(self) -> None:
        self._local = LocalStorage()

    def open(self, path: str) -> BinaryIO:
        if _on_disk(path):
            return self._local.open(path)
        if not FileSystems.exists(path):
            raise FileNotFoundError(path)
        return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)

    @contextlib.contextmanager
    def create(self, path: str) -> Iterator[BinaryIO]:
        if _on_disk(path):
            with self._local.create(path) as file:
                yield file
            return
        try:
            with tempfile.TemporaryFile() as whole:
                yield whole
                whole.seek(0)
                self._put(path, whole)
        except OSError as error:
            if is_no_room(error):
                where = f"{tempfile.gettempdir()} (where {path} is made)"
                raise write_failure(where, error) from error
            raise

    def _put(self, path: str, whole: BinaryIO) -> None:
        """Copies a file that is on the disk to an object."""
        remote = FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)
        try:
            with remote:
                shutil.copyfileobj(whole, remote, _COPY_BYTES)
        except BaseException:
            self.remove(path)  # closing an upload half-way makes an object of what had arrived
            raise

    def exists(self, path: str) -> bool:
        return (
            self._local.exists(path) if _on_disk(path) else FileSystems.exists(path) or self.is_folder(path)
        )

    def is_folder(self, path: str) -> bool:
        return self._local.is_folder(path) if _on_disk(path) else bool(self.list_files(path))

    def size(self, path: str) -> int:
        if _on_disk(path):
            return self._local.size(path)
        [match] = FileSystems.match([path])
        if not match.metadata_list:
            raise FileNotFoundError(path)
        return match.metadata_list[0].size_in_bytes

    def stamp(self, path: str) -> str:
        if _on_disk(path):
            return self._local.stamp(path)
        # equal sizes are not enough: a store tells other content by its checksum or time
        return f"{self.size(path)}:{FileSystems.checksum(path)}:{FileSystems.last_updated(path)}"

    def glob(self, pattern: str) -> list[str]:
        if _on_disk(pattern):
            return self._local.glob(pattern)
        [match] = FileSystems.match([pattern])
        return sorted(metadata.path for metadata in match.metadata_list)

    def list_files(self, folder: str) -> list[str]:
        if _on_disk(folder):
            return self._local.list_files(folder)
        [match] = FileSystems.match([folder.rstrip("/") + "/**"])
        return sorted(metadata.path for metadata in match.metadata_list)

    def remove(self, path: str) -> None:
        if _on_disk(path):
            self._local.remove(path)
            return
        found = self.list_files(path) or ([path] if FileSystems.exists(path) else [])
        if found:
            FileSystems.delete(found)

    def local_path(self, path: str) -> str:
        """A local file as it is; anything else copied once to this machine's temporary folder."""
        if _on_disk(path):
            return path
        size = self.size(path)
        key = hashlib.sha256(f"{path}:{self.stamp(path)}".encode()).hexdigest()[:24]
        local = os.path.join(tempfile.gettempdir(), f"rag-beam-{os.getuid()}", key, file_name(path))
        if not (os.path.exists(local) and os.path.getsize(local) == size):
            with self.open(path) as remote, self._local.create(local) as copy:
                shutil.copyfileobj(remote, copy, _COPY_BYTES)
        return local


STORAGE: Storage = BeamStorage()
