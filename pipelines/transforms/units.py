"""Computes a data set unit by unit: the one graph that every stage is an instance of.

    trigger ─PlanUnits─▶ units ─ComputeUnit─▶ reports ─┐
                                                       ├─FindDuplicates─┐
                                                       └────PlanParts───┴─▶ parts ─AssemblePart─▶ manifest

Only units, reports and plans cross between steps: rows go through files. Every step can be
repeated after a failure, since a file is committed whole and what is committed is skipped.
"""

import contextlib
import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from operator import itemgetter
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.shared import Shared
from apache_beam.utils.windowed_value import WindowedValue

from pipelines.dataset.duplicates import Bucket, find_duplicates, plan_buckets
from pipelines.dataset.ledger import Counts
from pipelines.dataset.parts import (
    PartPlan,
    SourceLosses,
    assemble_part,
    assemble_rejects,
    finish,
    plan_parts,
    plan_rejects,
)
from pipelines.dataset.raw_input import check_unchanged
from pipelines.dataset.target import Target
from pipelines.dataset.unit import Unit, UnitReport, UnitWriter, committed_report, create_unit
from pipelines.filesystems import STORAGE
from pipelines.heartbeat import Heartbeat
from pipelines.transforms.failures import explained
from rag_core.tables import WrittenFile

_LOGGER = logging.getLogger("rag_beam")  # what a worker does, for the log that a cluster keeps


class Work(ABC):
    """What a stage does to a unit: a plain object that a test can call without a runner.

    An instance only stores values; it is pickled to the workers.

    Attributes:
      units_at_once: how many units a process computes at a time. More than one where reading and writing
        shall not keep a device waiting; then what `load` gives must bear several threads.
      runs_model: whether computing a unit is a device's work; then its step may ask for workers that have one.
    """

    units_at_once = 1
    runs_model = False

    @abstractmethod
    def plan(self) -> Iterable[Unit]:
        """The units, from what lies on disk when the stage begins."""

    def load(self) -> Any:
        """What is heavy and shared by all units of a process: models, indexes. None by default."""
        return None

    @abstractmethod
    def compute(self, unit: Unit, loaded: Any, writer: UnitWriter) -> None:
        """Streams the unit's rows and its ledger into the writer."""


class ComputeUnits(beam.PTransform):
    """Units of `work`, computed and committed: one trigger element to a report a unit."""

    def __init__(self, target: Target, work: Work, hints: Mapping[str, str] | None = None):
        """`hints` are resource hints of the step that computes."""
        super().__init__(label=f"Compute {target.table}")
        self._target = target
        self._work = work
        self._hints = dict(hints or {})

    def expand(self, trigger: beam.PCollection) -> beam.PCollection:
        compute = beam.ParDo(ComputeUnitFn(self._target, self._work)).with_resource_hints(**self._hints)
        return (
            trigger
            | "PlanUnits" >> beam.ParDo(PlanUnitsFn(self._target, self._work))
            | "SpreadUnits" >> beam.Reshuffle()
            | "ComputeUnit" >> compute
        )


class MakeDataset(beam.PTransform):
    """Makes `target` by `work`; takes one trigger element, gives one when the manifest is there."""

    def __init__(self, target: Target, work: Work):
        super().__init__(label=f"Make {target.table}")
        self._target = target
        self._work = work
        self._hints: dict[str, str] = {}

    def on_model_workers(self, hints: Mapping[str, str]) -> "MakeDataset":
        """Asks for workers by resource hints, for the step that runs a model where there is one."""
        if self._work.runs_model:
            self._hints = dict(hints)
        return self

    def expand(self, trigger: beam.PCollection) -> beam.PCollection:
        target = self._target
        reports = trigger | ComputeUnits(target, self._work, self._hints)
        reports_known = beam.pvalue.AsList(reports)
        found = (
            trigger
            | "PlanBuckets" >> beam.ParDo(PlanBucketsFn(target), reports_known)
            | "SpreadBuckets" >> beam.Reshuffle()
            | "FindDuplicates" >> beam.ParDo(FindDuplicatesFn(target), reports_known)
        )
        duplicates_found = beam.pvalue.AsList(found)
        written = (
            trigger
            | "PlanParts" >> beam.ParDo(PlanPartsFn(target), reports_known, duplicates_found)
            | "SpreadParts" >> beam.Reshuffle()
            | "AssemblePart" >> beam.ParDo(AssemblePartFn(target))
        )
        changes = (
            trigger
            | "PlanRejects" >> beam.ParDo(PlanRejectsFn(target), reports_known, duplicates_found)
            | "SpreadRejects" >> beam.Reshuffle()
            | "AssembleRejects" >> beam.ParDo(AssembleRejectsFn(target))
        )
        return trigger | "WriteManifest" >> beam.ParDo(
            WriteManifestFn(target), reports_known, beam.pvalue.AsList(written), beam.pvalue.AsList(changes)
        )


class _Loaded:
    """What a Work loaded, and how many threads of a process may use it at a time."""

    def __init__(self, work: Work):
        self.content = work.load()
        if self.content is not None:
            _LOGGER.info("%s: loaded", type(work).__name__)
        self.threads = threading.Semaphore(work.units_at_once)


class PlanUnitsFn(beam.DoFn):
    """Lists the units, once what they depend on is there."""

    def __init__(self, target: Target, work: Work):
        self._target = target
        self._work = work

    def process(self, trigger: Any) -> Iterator[Unit]:
        with explained(self._target, "planning"):
            units = list(self._work.plan())
            Heartbeat.announce(STORAGE, self._target, units)
            yield from units


class ComputeUnitFn(beam.DoFn):
    """Computes and commits a unit, or finds it committed; yields its report."""

    def __init__(self, target: Target, work: Work):
        self._target = target
        self._work = work
        self._shared = Shared()
        self._loaded: _Loaded | None = None
        self._pool: ThreadPoolExecutor | None = None

    def setup(self) -> None:
        self._raw_inputs = {item.path: item for item in self._target.inputs if item.stamp}
        if self._work.units_at_once > 1:
            self._pool = ThreadPoolExecutor(self._work.units_at_once)

    def start_bundle(self) -> None:
        self._at_work: deque[Future[UnitReport]] = deque()
        _LOGGER.info("%s: a bundle begins", self._target.table)

    def process(self, unit: Unit) -> Iterator[UnitReport]:
        if self._pool is None:
            yield self._report(unit)
            return
        if len(self._at_work) == self._work.units_at_once:
            yield self._at_work.popleft().result()
        self._at_work.append(self._pool.submit(self._report, unit))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for future in self._at_work:
            yield GlobalWindows.windowed_value(future.result())

    def teardown(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def _report(self, unit: Unit) -> UnitReport:
        report = committed_report(STORAGE, self._target, unit)
        _LOGGER.info("%s: %s %s", self._target.table, unit.label, "begins" if report is None else "is there")
        if report is None:
            with explained(self._target, unit.label):
                report = self._compute(unit)
            Heartbeat.finished(self._target, unit)
        return report

    def _compute(self, unit: Unit) -> UnitReport:
        # not in setup(): a rerun that has no unit left to do loads nothing
        loaded = self._loaded = self._shared.acquire(lambda: _Loaded(self._work))
        guard = loaded.threads if loaded.content is not None else contextlib.nullcontext()
        read = [self._raw_inputs[path] for path in unit.origins if path in self._raw_inputs]
        with guard, create_unit(STORAGE, self._target, unit) as writer, Heartbeat(self._target, unit, writer):
            try:
                self._work.compute(unit, loaded.content, writer)
            finally:  # what a changed file made fail is told by the change
                check_unchanged(STORAGE, read)
        return UnitReport(unit.source, unit.number, writer.counts.rows_written, writer.counts)


class PlanBucketsFn(beam.DoFn):
    """Divides the ids' hashes, where the table's ids must be unique."""

    def __init__(self, target: Target):
        self._target = target

    def process(self, trigger: Any, reports: list[UnitReport]) -> Iterator[Bucket]:
        if self._target.unique:
            yield from plan_buckets(reports)


class FindDuplicatesFn(beam.DoFn):
    """Commits a bucket's duplicates; yields its number."""

    def __init__(self, target: Target):
        self._target = target

    def process(self, bucket: Bucket, reports: list[UnitReport]) -> Iterator[int]:
        with explained(self._target, "finding duplicate ids"):
            find_duplicates(STORAGE, self._target, bucket, reports)
        yield bucket.number


class PlanPartsFn(beam.DoFn):
    """Cuts the units' rows into parts, when all units and duplicates are known."""

    def __init__(self, target: Target):
        self._target = target

    def process(self, trigger: Any, reports: list[UnitReport], buckets: list[int]) -> Iterator[PartPlan]:
        with explained(self._target, "planning parts"):
            yield from plan_parts(STORAGE, self._target, reports, len(buckets))


class AssemblePartFn(beam.DoFn):
    """Writes a part from its units; yields it with its place."""

    def __init__(self, target: Target):
        self._target = target

    def process(self, plan: PartPlan) -> Iterator[tuple[tuple[int, int], WrittenFile]]:
        with explained(self._target, f"assembling {plan.name}"):
            yield plan.order, assemble_part(STORAGE, self._target, plan)


class PlanRejectsFn(beam.DoFn):
    """Finds the sources that lost records."""

    def __init__(self, target: Target):
        self._target = target

    def process(self, trigger: Any, reports: list[UnitReport], buckets: list[int]) -> Iterator[SourceLosses]:
        with explained(self._target, "planning rejects"):
            yield from plan_rejects(STORAGE, self._target, reports, len(buckets))


class AssembleRejectsFn(beam.DoFn):
    """Writes a source's rejects; yields what its duplicates change in the counts."""

    def __init__(self, target: Target):
        self._target = target

    def process(self, losses: SourceLosses) -> Iterator[Counts]:
        with explained(self._target, "assembling rejects"):
            yield assemble_rejects(STORAGE, self._target, losses)


class WriteManifestFn(beam.DoFn):
    """Finishes the data set; yields its folder, or nothing after a flood of rejects."""

    def __init__(self, target: Target):
        self._target = target

    def process(
        self,
        trigger: Any,
        reports: list[UnitReport],
        written: list[tuple[tuple[int, int], WrittenFile]],
        changes: list[Counts],
    ) -> Iterator[str]:
        counts = Counts.total([*(report.counts for report in reports), *changes])
        parts = [part for _, part in sorted(written, key=itemgetter(0))]
        with explained(self._target, "writing the manifest"):
            if finish(STORAGE, self._target, counts, parts):
                yield self._target.folder
