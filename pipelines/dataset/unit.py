"""A unit: what is computed, committed and resumed.

Files under OUT/.work/units, committed in this order: the rejects, the keys, and last the rows, whose
footer holds the unit's fingerprint, its counts and the other files' checksums. So a unit whose rows
file is there is whole, and a rerun skips it; a seal, written afterwards, proves that file.
"""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from pipelines.dataset.ledger import Counts
from pipelines.dataset.manifest import fingerprint
from pipelines.dataset.seal import proved_table, write_seal
from pipelines.dataset.target import Target
from rag_core.records import EXCERPT_CHARACTERS, LeaveOutReason, LeftOut, Reject
from rag_core.storage import Storage, file_sha256, join
from rag_core.tables import HashingFile, TableCreation, TableWriter, create_table
from schemas import TABLES

# One entry for each record whose id must be unique: the id's hash, the rows that came of the
# record, and the record's position in its source.
KEY_DTYPE = np.dtype(
    [("high", "<u8"), ("low", "<u8"), ("row", "<i8"), ("rows", "<i8"), ("position", "<i8"), ("source", "<i8")]
)

# A keys file is runs of this many entries (the last is shorter), each sorted by hash, so that a
# range of hashes is one slice a run and no unit's keys need memory beyond a run.
KEYS_PER_RUN = 1 << 18
_REJECTS_BUFFERED = 1_000

# what the unit's other files end in
_REJECTS = "rejects.parquet"
_KEYS = "keys"
_SEAL = "sha256"

R = TypeVar("R")


def id_hash(record_id: str) -> tuple[int, int]:
    """The two halves of an id's hash of 128 bits."""
    digest = hashlib.blake2b(record_id.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


@dataclass(frozen=True)
class Unit:
    """A piece of a stage's work.

    Attributes:
      source: number of the source (file, part) it belongs to; parts never mix sources.
      number: its place within the source. Units ordered by (source, number) give the data set's order.
      content: what to compute, as JSON; part of the unit's fingerprint.
      origins: the files that its records come from, for rejects and messages.
      records: how many records it reads, None where only reading tells.
    """

    source: int
    number: int
    content: dict[str, Any]
    origins: tuple[str, ...]
    records: int | None = None

    @property
    def label(self) -> str:
        """The unit as messages name it."""
        more = f" and {len(self.origins) - 1} more files" if len(self.origins) > 1 else ""
        return f"unit {self.source:05d}-{self.number:06d} ({self.origins[0]}{more})"


def row_units(origin: str, rows: int, unit_rows: int) -> Iterator[Unit]:
    """Runs of at most `unit_rows` of the rows of one data set, as the units of one source."""
    for number, begin in enumerate(range(0, rows, unit_rows)):
        end = min(begin + unit_rows, rows)
        yield Unit(0, number, {"begin": begin, "end": end}, (origin,), records=end - begin)


@dataclass
class UnitReport:
    """What a committed unit holds: the only thing that crosses from unit to assembly."""

    source: int
    number: int
    rows: int
    counts: Counts = field(default_factory=Counts)

    @property
    def order(self) -> tuple[int, int]:
        return self.source, self.number


class UnitWriter:
    """Takes a unit's rows and its ledger while it is computed; memory stays bounded by buffers."""

    def __init__(
        self, storage: Storage, target: Target, unit: Unit, table: TableWriter, side_files: ExitStack
    ):
        self.counts = Counts()
        self.unit = unit
        self._storage = storage
        self._target = target
        self._table = table
        self._side_files = side_files
        self._rejects: list[Reject] = []
        self._rejects_table: TableCreation | None = None
        self._keys: list[tuple[int, int, int, int, int, int]] = []
        self._keys_file: HashingFile | None = None
        self._keyed_rows = 0

    def read(self, records: int = 1) -> None:
        """Counts records as read."""
        self.counts.read += records

    def accept(self, records: int = 1) -> None:
        """Counts records as accepted."""
        self.counts.accepted += records

    def leave_out(self, reason: LeaveOutReason) -> None:
        """Counts a record as left out by design."""
        self.counts.left_out[str(reason)] += 1

    def reject(self, reject: Reject) -> None:
        """Keeps a bad record for the rejects table."""
        self.counts.rejected[str(reject.reason)] += 1
        self._rejects.append(reject)
        if len(self._rejects) >= _REJECTS_BUFFERED:
            self._flush_rejects()

    def accepted(self, records: Iterable[R | LeftOut | Reject]) -> Iterator[R]:
        """Enters what a reader yields into the ledger, and passes on what is accepted."""
        for record in records:
            self.read()
            if isinstance(record, Reject):
                self.reject(record)
            elif isinstance(record, LeftOut):
                self.leave_out(record.reason)
            else:
                self.accept()
                yield record

    def key(self, record_id: str, *, rows: int, position: int, source: int = 0) -> None:
        """States the id of the record that the next `rows` rows come from, where ids must be unique.

        Args:
          position: the record's position in its source, for the reject if it is a duplicate.
          source: which of the unit's source files it stands in.
        """
        high, low = id_hash(record_id)
        self._keys.append((high, low, self._keyed_rows, rows, position, source))
        self._keyed_rows += rows
        if len(self._keys) >= KEYS_PER_RUN:
            self._flush_keys()

    def write(self, batch: pa.RecordBatch) -> None:
        """Appends rows."""
        self._table.write(batch)
        self.counts.rows_written += batch.num_rows

    def finish(self) -> None:
        """Flushes the side files; the rows file follows, and makes the unit whole."""
        self._flush_rejects()
        if self._target.unique:
            self._flush_keys()

    def side_files(self) -> dict[str, str]:
        """SHA-256 (hex) of each of the unit's other files, by suffix; known when they are committed."""
        files = {}
        if self._rejects_table is not None and self._rejects_table.written is not None:
            files[_REJECTS] = self._rejects_table.written.sha256
        if self._keys_file is not None:
            files[_KEYS] = self._keys_file.sha256
        return files

    def _flush_rejects(self) -> None:
        if not self._rejects:
            return
        if self._rejects_table is None:
            path = unit_path(self._target, self.unit, _REJECTS)
            self._rejects_table = self._side_files.enter_context(
                create_table(self._storage, path, TABLES["rejects"])
            )
        self._rejects_table.writer.write(rejects_batch(self._target.stage, self._rejects))
        self._rejects.clear()

    def _flush_keys(self) -> None:
        if self._keys_file is None:
            path = unit_path(self._target, self.unit, _KEYS)
            self._keys_file = HashingFile(self._side_files.enter_context(self._storage.create(path)))
        keys = np.array(self._keys, dtype=KEY_DTYPE)
        keys.sort(order=["high", "low", "row"])
        self._keys_file.write(keys.tobytes())
        self._keys.clear()


@contextlib.contextmanager
def create_unit(storage: Storage, target: Target, unit: Unit) -> Iterator[UnitWriter]:
    """Commits the unit when the block ends without an exception."""
    path = unit_path(target, unit, "parquet")
    with create_table(storage, path, target.parts_schema, short_lived=True) as creation:
        with ExitStack() as side_files:
            writer = UnitWriter(storage, target, unit, creation.writer, side_files)
            yield writer
            writer.finish()
        creation.writer.footer = {
            "table": target.table,
            "unit_fingerprint": unit_fingerprint(target, unit),
            "origins": unit.origins,
            "counts": writer.counts.to_json(),
            "side_files": writer.side_files(),
        }
    assert creation.written is not None  # set when the block ends without an exception
    write_seal(storage, unit_path(target, unit, _SEAL), creation.written.sha256)


def committed_report(storage: Storage, target: Target, unit: Unit) -> UnitReport | None:
    """The report of a unit that is whole already, None where it is not there or is another's.

    It is read to its end: a unit is computed once, and would carry damage into every later stage.
    """
    table = proved_table(storage, unit_path(target, unit, "parquet"), unit_path(target, unit, _SEAL))
    if table is None or not table.footer:
        return None  # not there, or damaged after it was committed
    if table.footer.get("unit_fingerprint") != unit_fingerprint(target, unit):
        return None
    for suffix, sha256 in table.footer.get("side_files", {}).items():
        side_file = unit_path(target, unit, suffix)
        if not storage.exists(side_file) or file_sha256(storage, side_file) != sha256:
            return None
    return UnitReport(unit.source, unit.number, table.rows, Counts.from_json(table.footer["counts"]))


def unit_fingerprint(target: Target, unit: Unit) -> str:
    """What the unit's rows depend on."""
    return fingerprint([target.fingerprint, unit.source, unit.number, unit.content])


def unit_path(target: Target, unit: Unit | UnitReport, suffix: str) -> str:
    """A file of the unit under the target's work folder."""
    return join(target.units_folder, f"{unit.source:05d}-{unit.number:06d}.{suffix}")


def rejects_batch(stage: str, rejects: list[Reject]) -> pa.RecordBatch:
    """Rows of the rejects table; excerpts are cut here, so that no reader can forget to."""
    rows = [
        {
            "stage": stage,
            "source": reject.source,
            "position": reject.position,
            "record_id": reject.record_id,
            "reason": str(reject.reason),
            "message": reject.message,
            "excerpt": reject.excerpt[:EXCERPT_CHARACTERS],
        }
        for reject in rejects
    ]
    return pa.RecordBatch.from_pylist(rows, schema=TABLES["rejects"])
