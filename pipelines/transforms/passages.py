"""Documents to passages: the work of the `chunk` stage."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any

import pyarrow as pa

from pipelines.dataset.unit import Unit, UnitWriter
from pipelines.filesystems import STORAGE
from pipelines.transforms.units import Work
from rag_core.corpus import Source, read_source
from rag_core.passages import split_document
from rag_core.records import Document, LeftOut, Passage, Reject
from schemas import TABLES

_BATCH_BYTES = 1 << 20
# Many small files share a unit: a unit's commit costs more than parsing a few kilobytes.
_SMALL_FILE_BYTES = 64 << 10
_UNIT_BYTES = 1 << 20

ReadSource = Callable[[Source], Iterator[Document | Passage | LeftOut | Reject]]


def read_stored(source: Source) -> Iterator[Document | Passage | LeftOut | Reject]:
    """All records of a source, from where it lies."""
    return read_source(STORAGE, source)


class ChunkCorpus(Work):
    """Reads sources and cuts their documents; passages that a source holds already stay as they are."""

    def __init__(
        self,
        sources: list[Source],
        passage_words: int,
        min_words: int,
        last_passage: str,
        read: ReadSource = read_stored,
    ):
        """`read` gives a source's records: all of them, unless a plan measures some."""
        self._sources = sources
        self._passage_words = passage_words
        self._min_words = min_words
        self._last_passage = last_passage
        self._read = read

    def plan(self) -> list[Unit]:
        """The units, the largest first: a runner that deals them out in advance then does so evenly."""
        units: list[tuple[int, Unit]] = []
        ordinal, number, path = -1, 0, None
        for group, size in self._groups():
            first = group[0]
            ordinal, number = (ordinal, number + 1) if first.path == path else (ordinal + 1, 0)
            path = first.path
            unit = Unit(
                source=ordinal,
                number=number,
                content={"sources": [dataclasses.asdict(source) for source in group]},
                origins=tuple(source.path for source in group),
            )
            units.append((size, unit))
        units.sort(key=itemgetter(0), reverse=True)
        return [unit for _, unit in units]

    def compute(self, unit: Unit, loaded: Any, writer: UnitWriter) -> None:
        batches = _PassageBatches(writer)
        for index, fields in enumerate(unit.content["sources"]):
            for record in writer.accepted(self._read(Source(**fields))):
                self._add(record, index, batches, writer)
        batches.flush()

    def _add(
        self, record: Document | Passage, source: int, batches: "_PassageBatches", writer: UnitWriter
    ) -> None:
        rows = 0
        first_id = None
        for passage in self._passages(record):
            batches.add(passage)
            first_id = first_id or passage.passage_id
            rows += 1
        if first_id is not None:
            # a document is known by its first passage, so that documents and ready-made passages
            # of one corpus cannot take each other's ids
            writer.key(first_id, rows=rows, position=record.position, source=source)

    def _passages(self, record: Document | Passage) -> Iterable[Passage]:
        if isinstance(record, Passage):
            return [record]
        return split_document(
            record,
            passage_words=self._passage_words,
            min_words=self._min_words,
            last_passage=self._last_passage,  # type: ignore[arg-type]
        )

    def _groups(self) -> Iterator[tuple[list[Source], int]]:
        """Sources by unit, with their bytes: one each, but small files of one format together."""
        group: list[Source] = []
        group_bytes, is_open = 0, False
        for source in self._sources:
            size = _bytes_to_read(source)
            is_small = size <= _SMALL_FILE_BYTES
            fits = is_open and is_small and group_bytes + size <= _UNIT_BYTES
            if group and not (fits and source.format == group[0].format):
                yield group, group_bytes
                group, group_bytes = [], 0
            group.append(source)
            group_bytes += size
            is_open = is_small  # a large file stays alone
        if group:
            yield group, group_bytes


def _bytes_to_read(source: Source) -> int:
    """Bytes on disk; a piece of a dump, and what is no file (a data set's folder or name), is not small."""
    if source.byte_range is not None:
        begin, end = source.byte_range
        return max(end - begin, _UNIT_BYTES)
    if STORAGE.is_folder(source.path) or not STORAGE.exists(source.path):
        return _UNIT_BYTES
    return STORAGE.size(source.path)


class _PassageBatches:
    """Gathers passages into record batches of about a megabyte."""

    def __init__(self, writer: UnitWriter):
        self._writer = writer
        self._rows: list[Passage] = []
        self._bytes = 0

    def add(self, passage: Passage) -> None:
        self._rows.append(passage)
        self._bytes += len(passage.text)
        if self._bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            columns = [[getattr(row, name) for row in self._rows] for name in TABLES["passages"].names]
            arrays = [
                pa.array(values, field.type)
                for values, field in zip(columns, TABLES["passages"], strict=True)
            ]
            self._writer.write(pa.RecordBatch.from_arrays(arrays, schema=TABLES["passages"]))
        self._rows, self._bytes = [], 0
