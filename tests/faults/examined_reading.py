"""Reads a file, whatever it holds, as the stages do, and checks what must hold for every file.

Nothing but the project's own errors is raised; what is read, and how many records come of it, is bounded by
the file; read = accepted + left out + rejected, under codes that are enumerated; and what comes out can be
written to the tables.
"""

import io
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from pipelines.dataset.ledger import Counts
from pipelines.dataset.target import Target
from pipelines.dataset.unit import Unit, UnitWriter, rejects_batch
from pipelines.training.questions import Ledger
from pipelines.transforms.passages import ChunkCorpus
from rag_core.corpus import Source, plan_sources, read_source
from rag_core.errors import RagBeamError
from rag_core.questions import plan_question_sources, read_question_source, read_slices
from rag_core.records import EXCERPT_CHARACTERS, LeaveOutReason, LeftOut, Reject, RejectReason
from rag_core.storage import LocalStorage
from rag_core.training.sources import plan_training_sources, read_training_source
from schemas import TABLES

_LONGEST_SENTENCE = 3_000
_READ_TIMES = 300  # over: planning looks at a file's start, bz2 streams are found one by one
_SLICED = ("jsonl", "fever", "kilt", "csv", "parquet")


@dataclass
class Examined:
    """What became of an input.

    Attributes:
      refused: the sentence with which it was refused as a whole.
      counts: the ledger of what was read, before a refusal too.
    """

    refused: str | None = None
    counts: Counts = field(default_factory=Counts)


def examine(path: str, reads: str, wanted_format: str, largest_bytes: int | None = None) -> Examined:
    """Plans and reads a file or folder, and asserts what must hold.

    Args:
      reads: `corpus`, `questions` or `training`.
      wanted_format: or `auto`.
      largest_bytes: how many records may come of it, and how many bytes may be read; by default what its
        size allows.
    """
    storage = BoundedStorage(largest_bytes or _READ_TIMES * (_size(path) + (1 << 16)))
    examined = Examined()
    try:
        _READS[reads](storage, path, wanted_format, examined)
    except RagBeamError as error:
        examined.refused = str(error)
        assert examined.refused and len(examined.refused) < _LONGEST_SENTENCE
        assert "\n" not in examined.refused.strip(), examined.refused
    _check_ledger(examined.counts)
    return examined


class BoundedStorage(LocalStorage):
    """The disk, of which only so many bytes may be read and records made."""

    def __init__(self, most: int):
        self._left = self._most = most
        self._records_left = most

    def open(self, path: str) -> BinaryIO:
        return _BoundedFile(io.FileIO(path), self)

    def take(self, count: int) -> None:
        """Counts bytes read."""
        self._left -= count
        assert self._left >= 0, f"read more than {self._most:,} bytes"

    def numbered(self, records: Iterator, first: int) -> Iterator:
        """The records, checked to be numbered without gaps and to come to an end."""
        for position, record in enumerate(records, start=first):
            assert record.position == position, f"record {position} says that it is {record.position}"
            self._records_left -= 1
            assert self._records_left >= 0, f"more than {self._most:,} records"
            if isinstance(record, Reject):
                _check_reject(record)
            elif isinstance(record, LeftOut):
                assert isinstance(record.reason, LeaveOutReason)
            yield record


class _BoundedFile(io.BufferedReader):
    def __init__(self, raw: io.FileIO, storage: BoundedStorage):
        super().__init__(raw)
        self._storage = storage

    def read(self, size: int | None = -1) -> bytes:
        return self._counted(super().read(size))

    def read1(self, size: int = -1) -> bytes:
        return self._counted(super().read1(size))

    def _counted(self, data: bytes) -> bytes:
        self._storage.take(len(data))
        return data


class _Recorder(UnitWriter):
    """The real ledger; rows are kept nowhere, but must fit the table's schema."""

    def __init__(self, table: str, storage: LocalStorage):
        target = Target("", table, "fuzzing", {}, [])
        super().__init__(storage, target, Unit(0, 0, {}, ()), None, ExitStack())  # type: ignore[arg-type]
        self._schema = TABLES[table]
        self.rejects: list[Reject] = []

    def reject(self, reject: Reject) -> None:
        self.counts.rejected[str(reject.reason)] += 1
        self.rejects.append(reject)

    def write(self, batch: pa.RecordBatch) -> None:
        assert batch.schema.equals(self._schema)
        batch.validate(full=True)
        self.counts.rows_written += batch.num_rows


def _read_corpus(storage: BoundedStorage, path: str, wanted: str, examined: Examined) -> None:
    def read(source: Source) -> Iterator:
        return storage.numbered(read_source(storage, source), source.first_record)

    work = ChunkCorpus(plan_sources(storage, [path], wanted), 100, 1, "keep", read)
    recorder = _Recorder("passages", storage)
    examined.counts = recorder.counts
    for unit in work.plan():
        work.compute(unit, None, recorder)
    assert recorder.counts.rows_written >= recorder.counts.accepted
    rejects_batch("fuzzing", recorder.rejects).validate(full=True)


def _read_questions(storage: BoundedStorage, path: str, wanted: str, examined: Examined) -> None:
    recorder = _Recorder("questions", storage)
    examined.counts = recorder.counts
    for source in plan_question_sources(storage, [path], wanted):
        records = storage.numbered(read_question_source(storage, source), source.first_record)
        before = recorder.counts.read - recorder.counts.rejected[RejectReason.TRUNCATED_FILE]
        for question in recorder.accepted(records):
            row = {"question_id": question.question_id, "question": question.question}
            row["answers"] = None if question.answers is None else list(question.answers)
            recorder.write(pa.RecordBatch.from_pylist([row], schema=TABLES["questions"]))
            assert all(isinstance(document, str) for documents in question.evidence for document in documents)
        if source.format in _SLICED:
            sliced = sum(1 for _ in read_slices(storage, source, (("no such field",),)))
            read = recorder.counts.read - recorder.counts.rejected[RejectReason.TRUNCATED_FILE] - before
            # columns that are not asked for may be damaged without being missed
            assert sliced == read or (source.format == "parquet" and sliced >= read)
    rejects_batch("fuzzing", recorder.rejects).validate(full=True)


def _read_training(storage: BoundedStorage, path: str, wanted: str, examined: Examined) -> None:
    ledger = Ledger()
    examined.counts = ledger.counts
    for source in plan_training_sources(storage, [path], wanted, "--questions_format"):
        for record in storage.numbered(read_training_source(storage, source), source.first_record):
            question = ledger.accepted(record)
            if question is not None:
                texts = [text for passage in question.positives for text in (passage.title, passage.text)]
                assert texts
                pa.array([question.question_id, question.question, *question.answers, *texts], pa.string())
    rejects_batch("fuzzing", ledger.rejects).validate(full=True)


_READS = {"corpus": _read_corpus, "questions": _read_questions, "training": _read_training}


def _check_reject(reject: Reject) -> None:
    assert isinstance(reject.reason, RejectReason)
    assert reject.source and reject.source in reject.message
    assert len(reject.message) < _LONGEST_SENTENCE
    assert len(reject.excerpt) <= EXCERPT_CHARACTERS


def _check_ledger(counts: Counts) -> None:
    left_out, rejected = counts.left_out.total(), counts.rejected.total()
    assert counts.read == counts.accepted + left_out + rejected, counts
    assert set(counts.left_out) <= set(LeaveOutReason) and set(counts.rejected) <= set(RejectReason), counts


def _size(path: str) -> int:
    files = Path(path).iterdir() if Path(path).is_dir() else [Path(path)]
    return sum(file.stat().st_size for file in files)
