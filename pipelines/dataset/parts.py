"""Assembles a finished stage's units into parts, its rejects beside them, and the manifest last."""

import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.dataset.duplicates import read_duplicates
from pipelines.dataset.ledger import Counts, is_flood
from pipelines.dataset.manifest import Manifest, read_manifest, write_manifest
from pipelines.dataset.seal import proved_table, write_seal
from pipelines.dataset.target import Target
from pipelines.dataset.unit import UnitReport, rejects_batch, unit_path
from rag_core.errors import UsageError
from rag_core.records import Reject, RejectReason
from rag_core.storage import Storage, file_name, file_sha256, join
from rag_core.tables import WrittenFile, create_table, inspect_table, read_batches
from schemas import FORMAT_VERSION, TABLES

_OUTCOME = "outcome.json"


@dataclass(frozen=True)
class Segment:
    """Rows [begin, end) of a unit, counted without its duplicates."""

    unit_number: int
    begin: int
    end: int


@dataclass(frozen=True)
class PartPlan:
    """A part to assemble: pieces of one source's units, in order."""

    name: str
    source: int
    number: int
    segments: tuple[Segment, ...]
    buckets: int

    @property
    def order(self) -> tuple[int, int]:
        """Its place in the data set."""
        return self.source, self.number


@dataclass(frozen=True)
class SourceLosses:
    """What must be written to the rejects table for one source, and what duplicates take away."""

    source: int
    units: tuple[int, ...]
    buckets: int


def plan_parts(
    storage: Storage, target: Target, reports: list[UnitReport], buckets: int
) -> Iterator[PartPlan]:
    """Cuts each source's rows, units in order and duplicates left away, into parts."""
    for source, units in _by_source(reports):
        duplicates = read_duplicates(storage, target, buckets, source)
        kept = {unit.number: unit.rows - _dropped_rows(duplicates, unit.number) for unit in units}
        for number, segments in enumerate(_cut(kept, target.rows_per_part)):
            name = (
                target.part_names[source] if target.part_names else f"part-{source:05d}-{number:05d}.parquet"
            )
            yield PartPlan(name, source, number, segments, buckets)


def plan_rejects(
    storage: Storage, target: Target, reports: list[UnitReport], buckets: int
) -> Iterator[SourceLosses]:
    """The sources that have rejects or duplicates."""
    for source, units in _by_source(reports):
        rejected = any(unit.counts.rejected for unit in units)
        if rejected or len(read_duplicates(storage, target, buckets, source)):
            yield SourceLosses(source, tuple(unit.number for unit in units), buckets)


def assemble_part(storage: Storage, target: Target, plan: PartPlan) -> WrittenFile:
    """Writes one part; one that an earlier run has assembled is taken as it is."""
    path = join(target.folder, plan.name)
    footer = {
        "table": target.table,
        "schema_version": FORMAT_VERSION,
        "fingerprint": target.fingerprint,
        "segments": [[segment.unit_number, segment.begin, segment.end] for segment in plan.segments],
    }
    seal = join(target.work_folder, "parts", f"{plan.name}.sha256")
    existing = _existing_part(storage, path, seal, footer)
    if existing is not None:
        return existing
    duplicates = read_duplicates(storage, target, plan.buckets, plan.source)
    with create_table(storage, path, target.parts_schema) as creation:
        for segment in plan.segments:
            for batch in _segment_batches(storage, target, plan.source, segment, duplicates):
                creation.writer.write(batch)
        creation.writer.footer = footer
    assert creation.written is not None  # set when the block ends without an exception
    write_seal(storage, seal, creation.written.sha256)
    return creation.written


def assemble_rejects(storage: Storage, target: Target, losses: SourceLosses) -> Counts:
    """Writes one source's rejects; returns what its duplicates change in the counts."""
    duplicates = read_duplicates(storage, target, losses.buckets, losses.source)
    path = join(target.folder, "rejects", f"part-{losses.source:05d}-00000.parquet")
    with create_table(storage, path, TABLES["rejects"]) as creation:
        for number in losses.units:
            unit = UnitReport(losses.source, number, 0)
            unit_rejects = unit_path(target, unit, "rejects.parquet")
            if storage.exists(unit_rejects):
                for batch in read_batches(storage, unit_rejects, TABLES["rejects"]):
                    creation.writer.write(batch)
            for batch in _duplicate_rejects(storage, target, unit, duplicates):
                creation.writer.write(batch)
        creation.writer.footer = {"table": "rejects", "fingerprint": target.fingerprint}
    dropped = len(duplicates)
    change = Counts(accepted=-dropped, rows_written=-int(duplicates["rows"].sum()))
    if dropped:
        change.rejected[str(RejectReason.DUPLICATE_ID)] = dropped
    return change


def finish(storage: Storage, target: Target, counts: Counts, parts: list[WrittenFile]) -> bool:
    """Writes the manifest and drops the work folder, or, after a flood of rejects, leaves both undone.

    After a flood parts and rejects can be read, and a rerun that allows more rejects ends here
    without computing a unit again.

    Args:
      parts: in the data set's order.

    Returns:
      Whether the data set is finished.
    """
    _carry(storage, target, counts)
    outcome = join(target.work_folder, _OUTCOME)
    if is_flood(counts, target.max_rejects):
        with storage.create(outcome) as file:
            file.write(json.dumps(counts.to_json()).encode())
        return False
    manifest = Manifest(
        table=target.table,
        parts=parts,
        fingerprint=target.fingerprint,
        inputs=target.inputs,
        settings=target.settings,
        counts=counts,
        details=target.details,
    )
    write_manifest(storage, target.folder, manifest)
    storage.remove(target.work_folder)
    return True


def _carry(storage: Storage, target: Target, counts: Counts) -> None:
    """Adds what data sets on the way to this one read, left out and rejected, and copies their rejects."""
    for index, folder in enumerate(target.carried):
        manifest = read_manifest(storage, folder)
        if manifest is None:
            raise UsageError(f"{folder}: has no manifest; run the command again")
        if index == 0:
            counts.read = manifest.counts.read
        counts.left_out.update(manifest.counts.left_out)
        counts.rejected.update(manifest.counts.rejected)
        for path in storage.list_files(join(folder, "rejects")):
            name = file_name(path).replace("part-", f"part-{manifest.table}-", 1)
            with storage.open(path) as source, storage.create(join(target.folder, "rejects", name)) as copy:
                shutil.copyfileobj(source, copy)


def flood_counts(storage: Storage, target: Target) -> Counts | None:
    """The counts of a run that ended in a flood of rejects; None where it did not."""
    try:
        with storage.open(join(target.work_folder, _OUTCOME)) as file:
            return Counts.from_json(json.loads(file.read()))
    except FileNotFoundError:
        return None


def _by_source(reports: list[UnitReport]) -> Iterator[tuple[int, list[UnitReport]]]:
    """Reports in the data set's order, source by source."""
    ordered = sorted(reports, key=lambda report: report.order)
    for source, units in itertools.groupby(ordered, key=lambda report: report.source):
        yield source, list(units)


def _cut(kept: dict[int, int], rows_per_part: int) -> Iterator[tuple[Segment, ...]]:
    """Cuts units of `kept` rows into runs of at most `rows_per_part` rows."""
    segments: list[Segment] = []
    room = rows_per_part
    for number, rows in kept.items():
        begin = 0
        while begin < rows:
            taken = min(room, rows - begin)
            segments.append(Segment(number, begin, begin + taken))
            begin += taken
            room -= taken
            if room == 0:
                yield tuple(segments)
                segments, room = [], rows_per_part
    if segments:
        yield tuple(segments)


def _dropped_rows(duplicates: np.ndarray, unit_number: int) -> int:
    return int(duplicates["rows"][duplicates["unit_number"] == unit_number].sum())


def _segment_batches(
    storage: Storage, target: Target, source: int, segment: Segment, duplicates: np.ndarray
) -> Iterator[pa.RecordBatch]:
    path = unit_path(target, UnitReport(source, segment.unit_number, 0), "parquet")
    own = duplicates[duplicates["unit_number"] == segment.unit_number]
    if not len(own):
        yield from read_batches(storage, path, target.parts_schema, begin=segment.begin, end=segment.end)
        return
    first = 0  # of the batch, in the unit's rows
    kept = 0  # rows before the batch that are no duplicates
    for batch in read_batches(storage, path, target.parts_schema):
        mask = np.ones(batch.num_rows, dtype=bool)
        touched = slice(
            np.searchsorted(own["row"] + own["rows"], first, side="right"),
            np.searchsorted(own["row"], first + batch.num_rows),
        )
        for duplicate in own[touched]:
            begin = max(0, int(duplicate["row"]) - first)
            mask[begin : max(begin, int(duplicate["row"] + duplicate["rows"]) - first)] = False
        first += batch.num_rows
        batch = batch.filter(pa.array(mask))
        low, high = max(0, segment.begin - kept), segment.end - kept
        kept += batch.num_rows
        if high <= 0:
            return
        piece = batch.slice(low, max(0, high - low))
        if piece.num_rows:
            yield piece


def _duplicate_rejects(
    storage: Storage, target: Target, unit: UnitReport, duplicates: np.ndarray
) -> Iterator[pa.RecordBatch]:
    own = duplicates[duplicates["unit_number"] == unit.number]
    if not len(own):
        return
    path = unit_path(target, unit, "parquet")
    own_origins = _origins(storage, target, unit)
    ids = pa.schema([target.parts_schema.field(0)])
    origins: dict[tuple[int, int], list[str]] = {}  # of the units where the records kept stand
    first = 0
    for batch in read_batches(storage, path, ids):
        inside = own[(own["row"] >= first) & (own["row"] < first + batch.num_rows)]
        rejects = []
        for duplicate in inside:
            record_id = batch.column(0)[int(duplicate["row"]) - first].as_py()
            kept_unit = int(duplicate["first_unit_source"]), int(duplicate["first_unit_number"])
            if kept_unit not in origins:
                origins[kept_unit] = _origins(storage, target, UnitReport(*kept_unit, 0))
            kept = origins[kept_unit][int(duplicate["first_source"])]
            rejects.append(
                Reject(
                    source=own_origins[int(duplicate["source"])],
                    position=int(duplicate["position"]),
                    reason=RejectReason.DUPLICATE_ID,
                    message=f"{ids.field(0).name} {record_id!r} was met before, in {kept} at "
                    f"{int(duplicate['first_position'])}; that record is kept. Give each record an id of its own",
                    record_id=record_id,
                )
            )
        if rejects:
            yield rejects_batch(target.stage, rejects)
        first += batch.num_rows


def _origins(storage: Storage, target: Target, unit: UnitReport) -> list[str]:
    """The files that a unit's records come from."""
    footer = inspect_table(storage, unit_path(target, unit, "parquet")).footer or {}
    return footer["origins"]


def _existing_part(storage: Storage, path: str, seal: str, footer: dict) -> WrittenFile | None:
    table = proved_table(storage, path, seal)
    if table is None or table.footer != footer:
        return None
    return WrittenFile(file_name(path), table.rows, storage.size(path), file_sha256(storage, path))
