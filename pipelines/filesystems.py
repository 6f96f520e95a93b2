"""`rag_core.storage.Storage` over Beam's FileSystems: `gs://`, `s3://`, `hdfs://` and local paths."""

import contextlib
import functools
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines import s3
from rag_core.errors import DamagedFile, RagBeamError, UsageError, reason_of
from rag_core.file_cache import FileCache
from rag_core.remote_folders import copies_folder, reach_with
from rag_core.storage import LocalStorage, Storage, is_local, is_no_room, write_failure

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_COPY_BYTES = 8 << 20
_REFUSED = range(300, 500)  # what a store answers to a request that it will not do however often it is asked

s3.use_with_beam()
if FileSystems._pipeline_options is None:  # a worker has those of its job
    FileSystems.set_options(PipelineOptions([]))  # without any, Beam opens no s3:// path


class StoreFailed(RagBeamError):
    """An object store did not do what was asked of it, and may do so another time."""


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


def default_copies(most_bytes: int | None = None) -> FileCache:
    """Copies beside the temporary files."""
    return FileCache(os.path.join(copies_folder(), "files"), most_bytes)


class BeamStorage:
    """Every path that Beam reads. Local ones go to the disk directly, where renaming is atomic.

    On an object store an object appears when its upload is complete, so a file is written to the
    local disk first and put once: a writer that dies half-way leaves nothing, and an upload that fails
    is given up, so that what was there before stays.
    """

    def __init__(self, copies: FileCache | None = None) -> None:
        """Stores where copies of objects lie that are to be memory-mapped; by default beside the temporary files."""
        self._local = LocalStorage()
        self._copies = copies

    def open(self, path: str) -> BinaryIO:
        if _on_disk(path):
            return self._local.open(path)
        with _told(path):
            if not _is_object(path):
                raise FileNotFoundError(path)
            remote = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
        return io.BufferedReader(_Telling(path, remote))

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
                with _told(path):
                    _put(path, whole)
        except OSError as error:
            if is_no_room(error):
                where = f"{tempfile.gettempdir()} (where {path} is made)"
                raise write_failure(where, error) from error
            raise

    def exists(self, path: str) -> bool:
        if _on_disk(path):
            return self._local.exists(path)
        with _told(path):
            return _is_object(path) or self.is_folder(path)

    def is_folder(self, path: str) -> bool:
        return self._local.is_folder(path) if _on_disk(path) else bool(_match(_below(path), limit=1))

    def size(self, path: str) -> int:
        return self._local.size(path) if _on_disk(path) else _metadata(path).size_in_bytes

    def stamp(self, path: str) -> str:
        if _on_disk(path):
            return self._local.stamp(path)
        # equal sizes are not enough: a store tells other content by its checksum or time
        found = _metadata(path)
        with _told(path):
            return f"{found.size_in_bytes}:{FileSystems.checksum(path)}:{found.last_updated_in_seconds}"

    def glob(self, pattern: str) -> list[str]:
        if _on_disk(pattern):
            return self._local.glob(pattern)
        return sorted(metadata.path for metadata in _match(pattern))

    def list_files(self, folder: str) -> list[str]:
        if _on_disk(folder):
            return self._local.list_files(folder)
        return sorted(metadata.path for metadata in _match(_below(folder)))

    def remove(self, path: str) -> None:
        if _on_disk(path):
            self._local.remove(path)
            return
        found = self.list_files(path)
        with _told(path):
            found = found or ([path] if _is_object(path) else [])
            if found:
                FileSystems.delete(found)

    @contextlib.contextmanager
    def held_locally(self, path: str, sha256: str | None = None) -> Iterator[str]:
        if _on_disk(path):
            yield path
            return
        key = sha256 or hashlib.sha256(f"{path}:{self.stamp(path)}".encode()).hexdigest()
        fetch = functools.partial(self._fetch, path, sha256)
        copies = self._copies or default_copies()
        with copies.held(key, self.size(path), fetch, path) as copy:
            try:
                yield copy
            except DamagedFile as error:
                copies.drop(key)
                raise UsageError(
                    f"{copy}: the copy of {path} was damaged on this machine's disk, and has been removed; run the "
                    "same command again, it is copied anew"
                ) from error

    def _fetch(self, path: str, sha256: str | None, copy: BinaryIO) -> None:
        """Writes the bytes of an object to its copy.

        Raises:
          UsageError: they are not those of the SHA-256.
        """
        digest = hashlib.sha256()
        with self.open(path) as remote:
            while data := remote.read(_COPY_BYTES):
                digest.update(data)
                copy.write(data)
        if sha256 not in (None, digest.hexdigest()):
            raise UsageError(
                f"{path}: damaged, or a file of another index: the SHA-256 of what was copied is "
                f"{digest.hexdigest()}, expected {sha256} from the manifest; copy the index again or rebuild it"
            )


def _put(path: str, whole: BinaryIO) -> None:
    """Copies a file that is on the disk to an object."""
    remote = FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)
    try:
        shutil.copyfileobj(whole, remote, _COPY_BYTES)
        remote.close()
    except BaseException:
        _give_up(path, remote)
        raise


def _give_up(path: str, remote: BinaryIO) -> None:
    """Ends an upload that failed. Closing it would make an object of what had arrived."""
    s3.give_up_uploads()
    terminate = getattr(remote, "terminate", None)  # Google's writer has one
    with contextlib.suppress(Exception):
        (terminate or remote.close)()
        if terminate is None and not path.startswith("s3://"):
            FileSystems.delete([path])


def _is_object(path: str) -> bool:
    """Whether an object has this name; a bucket alone is none, and Beam would ask for it for minutes."""
    return "/" in path.partition("://")[2].rstrip("/") and FileSystems.exists(path)


def _below(folder: str) -> str:
    return folder.rstrip("/") + "/**"


def _metadata(path: str) -> FileMetadata:
    """Raises FileNotFoundError."""
    with _told(path):
        if not _is_object(path):
            raise FileNotFoundError(path)
    return _match(path)[0]


def _match(pattern: str, limit: int | None = None) -> list[FileMetadata]:
    with _told(pattern):
        [match] = FileSystems.match([pattern], limits=[limit])
        return match.metadata_list


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """Tells what a store refused, or failed to do, in a sentence.

    Raises:
      UsageError: it refuses, and would do so again.
      StoreFailed: it did not answer, or failed itself.
    """
    try:
        yield
    except (OSError, RagBeamError) as error:
        cause = _cause(error)
        if cause is error:
            raise
        raise _sentence(path, cause) from error
    except Exception as error:
        raise _sentence(path, error) from error


def _cause(error: Exception) -> Exception:
    """What lies within Beam's errors of several paths."""
    while isinstance(error, BeamIOError) and error.exception_details:
        error = next(iter(error.exception_details.values()))
    return error


def _sentence(path: str, cause: Exception) -> Exception:
    if isinstance(cause, RagBeamError | FileNotFoundError):
        return cause
    reason = getattr(cause, "message", None) or reason_of(cause)
    if getattr(cause, "code", None) in _REFUSED:
        return UsageError(
            f"{path}: the store refuses it ({reason}); give a bucket that is there and that your "
            "credentials may read and write"
        )
    return StoreFailed(
        f"{path}: the store did not answer as expected ({reason}); run the same command again when it does: "
        "what is whole is kept"
    )


class _Telling(io.RawIOBase):
    """An object that is read; where its store fails meanwhile, that is told as `_told` does."""

    def __init__(self, path: str, remote: io.BufferedIOBase):
        self._path, self._remote = path, remote

    def readinto(self, buffer: "WriteableBuffer") -> int:
        with _told(self._path):
            return self._remote.readinto(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._remote.seek(offset, whence)

    def tell(self) -> int:
        return self._remote.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._remote.close()
        super().close()


STORAGE: Storage = BeamStorage()
reach_with(STORAGE)


@dataclass(frozen=True)
class ShardCache:
    """Where a worker keeps copies of an index that lies on a store, and how many bytes; it travels to the workers."""

    folder: str | None = None
    most_bytes: int | None = None

    def storage(self) -> Storage:
        """All paths, with the copies of objects kept there."""
        if self == DEFAULT_CACHE:
            return STORAGE
        if self.folder is None:
            return BeamStorage(default_copies(self.most_bytes))
        return BeamStorage(FileCache(self.folder, self.most_bytes))


DEFAULT_CACHE = ShardCache()
