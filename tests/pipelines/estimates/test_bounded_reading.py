"""Reading for a given time, by a clock that only a record moves."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.estimates.bounded_reading import BoundedReading
from rag_core.corpus import Source
from rag_core.storage import Storage

RECORD_BYTES = 8 << 10


class Clock:
    """Stands still but for `tick`."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def read(self, storage: Storage, source: Source) -> Iterator[bytes]:
        """A record a second."""
        with storage.open(source.path) as file:
            while record := file.read(RECORD_BYTES):
                self.now += 1
                yield record


def source(path: Path, records: int) -> Source:
    path.write_bytes(bytes(RECORD_BYTES * records))
    return Source(str(path), "text")


def read_all(reading: BoundedReading) -> list[int]:
    return [sum(1 for _ in reading.records(source)) for source in reading.sources]


def test_each_source_gets_its_share_of_the_time(tmp_path):
    sources = [source(tmp_path / name, 8) for name in ("a", "b")]
    clock = Clock()
    reading = BoundedReading(sources, clock.read, seconds=4, clock=clock)
    assert read_all(reading) == [2, 2]
    assert reading.share == 4 / 16


def test_a_source_that_ends_leaves_its_time_to_the_others(tmp_path):
    sources = [source(tmp_path / "a", 1), source(tmp_path / "b", 8)]
    clock = Clock()
    reading = BoundedReading(sources, clock.read, seconds=4, clock=clock)
    assert read_all(reading) == [1, 3]
    assert reading.share == 4 / 9


def test_all_is_read_where_the_time_suffices(tmp_path):
    sources = [source(tmp_path / "a", 2), source(tmp_path / "b", 1)]
    clock = Clock()
    reading = BoundedReading(sources, clock.read, seconds=60, clock=clock)
    assert read_all(reading) == [2, 1]
    assert reading.share == 1


def test_evenly_spaced_sources_stand_for_all(tmp_path):
    sources = [source(tmp_path / f"{number:02d}", 512) for number in range(33)]  # 4 MiB each
    clock = Clock()
    reading = BoundedReading(sources, clock.read, seconds=16, clock=clock)
    assert len(reading.sources) == 8
    assert (reading.sources[0], reading.sources[-1]) == (sources[0], sources[-1])
    assert read_all(reading) == [2] * 8
    assert reading.share == 2 * 8 / (33 * 512)


def test_what_is_read_ahead_of_the_records_does_not_count(tmp_path):
    """As of a compressed block, of which many records come."""
    clock = Clock()

    def read(storage: Storage, block_file: Source) -> Iterator[bytes]:
        for block in clock.read(storage, block_file):
            for _ in range(10):
                clock.now += 1
                yield block

    reading = BoundedReading([source(tmp_path / "a", 8)], read, seconds=3, clock=clock)
    assert read_all(reading) == [11]  # on to the second block: then the first is known to hold 10 records
    assert reading.share == 1.1 / 8


def test_a_piece_of_a_file_counts_as_the_piece(tmp_path):
    path = source(tmp_path / "a", 4).path
    pieces = [
        Source(path, "text", byte_range=(0, RECORD_BYTES)),
        Source(path, "text", byte_range=(RECORD_BYTES, 4 * RECORD_BYTES)),
    ]
    reading = BoundedReading(pieces, lambda storage, piece: iter([b""]), seconds=60, clock=Clock())
    assert sum(1 for _ in reading.records(pieces[0])) == 1
    assert reading.share == 1 / 4


def test_parquet_counts_by_rows(tmp_path):
    """Columns that are not read are bytes all the same."""
    pq.write_table(pa.table({"text": ["one"] * 8, "other": list(range(8))}), tmp_path / "a.parquet")
    clock = Clock()

    def read(storage: Storage, parquet: Source) -> Iterator[int]:
        for number in range(8):
            clock.now += 1
            yield number

    reading = BoundedReading([Source(str(tmp_path / "a.parquet"), "parquet")], read, seconds=2, clock=clock)
    assert read_all(reading) == [2]
    assert reading.share == 2 / 8
