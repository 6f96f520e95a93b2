"""Sources read for a few seconds, and which share of all bytes that was."""

import io
import time
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Generic, TypeVar

import numpy as np

from pipelines.estimates.sample_run import folder_bytes
from pipelines.filesystems import STORAGE, BeamStorage
from rag_core.corpus import Source
from rag_core.remote_folders import local_folder
from rag_core.storage import Storage
from rag_core.tables import inspect_table

READING_SECONDS = 4.0
# Enough sources to tell what all are like; more where they are small.
_LEAST_SOURCES = 8
_SAMPLE_BYTES = 16 << 20
_SHORT_READ_BYTES = 8 << 10
_BY_ROWS = ("parquet", "hf_dataset")

R = TypeVar("R")


class BoundedReading(Generic[R]):
    """Reads evenly spaced sources; those that end early leave their time to the others.

    Attributes:
      sources: the ones to read, in order.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        read: Callable[[Storage, Source], Iterator[R]],
        *,
        seconds: float = READING_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Looks up the sources' sizes; the time runs from the first record on."""
        self._total_bytes = sum(path_bytes({source.path for source in sources}).values())
        mean_bytes = max(1, self._total_bytes // len(sources))
        count = min(len(sources), max(_LEAST_SOURCES, _SAMPLE_BYTES // mean_bytes))
        self.sources = [sources[place] for place in np.linspace(0, len(sources) - 1, count).astype(int)]
        self._read = read
        self._seconds = seconds
        self._clock = clock
        self._ends: float | None = None
        self._unread = count
        self._read_bytes = 0.0

    def records(self, source: Source) -> Iterator[R]:
        """The first records of a source, for its share of the time that is left.

        Not fewer than come of what is read and decompressed at once: how many bytes the records stand
        for is known when the next bytes are asked for.
        """
        now = self._clock()
        if self._ends is None:
            self._ends = now + self._seconds
        ends = now + (self._ends - now) / self._unread
        self._unread -= 1
        storage = _CountingStorage(short_reads=source.member is None and source.format not in _BY_ROWS)
        bytes_read = used_records = used_bytes = 0
        for records, record in enumerate(self._read(storage, source), start=1):
            if storage.bytes_read > bytes_read:  # all that was read before has been given out
                used_records, used_bytes = records - 1, bytes_read
                bytes_read = storage.bytes_read
            yield record
            if self._clock() >= ends:
                if source.format in _BY_ROWS:
                    self._read_bytes += _bytes_of_rows(source, records)
                    return
                if used_records:
                    self._read_bytes += used_bytes * records / used_records
                    return
        self._read_bytes += _whole_bytes(source, storage.bytes_read)

    @property
    def share(self) -> float:
        """Which share of all sources' bytes was read, above 0 and at most 1."""
        return min(1.0, self._read_bytes / self._total_bytes) if self._read_bytes else 1.0


def path_bytes(paths: set[str]) -> dict[str, int]:
    """Bytes of each file or folder; 0 of what is neither (a data set on the hub)."""
    return {path: folder_bytes(path) or (STORAGE.size(path) if STORAGE.exists(path) else 0) for path in paths}


def _whole_bytes(source: Source, bytes_read: int) -> int:
    """Bytes of a source that was read to its end, which some formats do without reading all of them."""
    if source.byte_range is not None:
        return source.byte_range[1] - source.byte_range[0]
    return bytes_read if source.member else path_bytes({source.path})[source.path]


def _bytes_of_rows(source: Source, rows: int) -> float:
    """Bytes that so many of a source's rows stand for, whatever of their columns is read."""
    if source.format == "parquet":
        all_rows = inspect_table(STORAGE, source.path).rows
    else:
        import datasets  # imported late: it takes a second, and few runs need it

        all_rows = datasets.load_from_disk(local_folder(STORAGE, source.path)).num_rows
    return path_bytes({source.path})[source.path] * rows / all_rows


class _CountingStorage(BeamStorage):
    """Counts the bytes that are read.

    With `short_reads` a read gives a few kilobytes, whatever it asks for: then hardly more is read than
    what the records so far have come of. The directory of a zip archive must be read as a whole.
    """

    def __init__(self, short_reads: bool) -> None:
        super().__init__()
        self.bytes_read = 0
        self._short_reads = short_reads

    def open(self, path: str) -> BinaryIO:
        file = _CountedFile(super().open(path), self)
        return file if self._short_reads else io.BufferedReader(file)  # type: ignore[return-value]


class _CountedFile(io.RawIOBase):
    def __init__(self, file: BinaryIO, storage: _CountingStorage):
        self._file = file
        self._storage = storage

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        data = self._file.read(min(len(buffer), _SHORT_READ_BYTES))
        buffer[: len(data)] = data
        self._storage.bytes_read += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()
