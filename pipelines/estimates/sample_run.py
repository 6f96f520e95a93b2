"""A stage's work on a sample: the same units and parts, in this process, without a runner."""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines.dataset.duplicates import find_duplicates, plan_buckets
from pipelines.dataset.parts import assemble_part, plan_parts
from pipelines.dataset.reader import Dataset, Part
from pipelines.dataset.target import Target
from pipelines.dataset.unit import Unit, UnitReport, create_unit
from pipelines.estimates.forecasts import Estimate
from pipelines.filesystems import STORAGE
from pipelines.transforms.units import Work
from rag_core.storage import join
from rag_core.tables import create_table, read_batches

# What the local runner takes around one data set's work, as measured on two cores; it decides only
# where the work itself is a matter of seconds.
RUNNER_SECONDS = 1.5
# A run this long is measured well enough; the next larger sample would take four times as long.
ENOUGH_SECONDS = 1.5
_GROWTH = 4
_MOST_ROWS = 1 << 15  # of a sample: repeated rows are held in memory


@dataclass(frozen=True)
class SampleRun:
    """What a stage's work took on `rows` rows of its input, and left.

    Attributes:
      work_bytes: units and what else lies in the work folder until the stage ends.
      part_bytes: of the parts.
    """

    rows: int
    seconds: float
    work_bytes: int
    part_bytes: int

    def estimate(
        self,
        rows: int,
        *,
        parts: int,
        load_seconds: float = 0.0,
        sized: "SampleRun | None" = None,
        processes: int = 1,
        notes: tuple[str, ...] = (),
        sample: pa.Table | None = None,
    ) -> Estimate:
        """What `rows` rows of input take at this rate, where each becomes one row of output.

        Args:
          parts: files of the output.
          load_seconds: until the model is there; every process loads at the same time.
          sized: the run that tells the bytes of a row, where this one's rows were repeated.
          processes: how many share the rows.
          notes: what is left out.
          sample: see `Estimate`.
        """
        sized = sized or self
        part_bytes = rows * sized.part_bytes / sized.rows
        return Estimate(
            rows=rows,
            seconds=RUNNER_SECONDS + load_seconds + self.seconds * rows / self.rows / processes,
            disk_bytes=round(part_bytes),
            peak_disk_bytes=round(part_bytes + rows * sized.work_bytes / sized.rows),
            parts=parts,
            notes=notes,
            sample=sample,
        )


@contextlib.contextmanager
def temporary_folder() -> Iterator[str]:
    """A folder on the local disk that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="rag-beam-plan-") as folder:
        yield folder


def stored(folder: str, table: str, rows: pa.Table) -> Dataset:
    """Rows as a data set of one part under `folder`, so that a stage's work can read them."""
    path = join(folder, f"{table}.parquet")
    with create_table(STORAGE, path, rows.schema) as creation:
        for batch in rows.to_batches():
            creation.writer.write(batch)
    assert creation.written is not None  # set when the block ends without an exception
    part = Part(path, rows.num_rows, creation.written.sha256)
    return Dataset(path, table, [part], part.sha256)


def sample_target(
    folder: str,
    table: str,
    schema: pa.Schema | None = None,
    *,
    rows_per_part: int = 50_000,
    unique: bool = False,
) -> Target:
    """A data set to be made of a sample, under `folder`."""
    return Target(
        folder=join(folder, "made"),
        table=table,
        stage="plan",
        settings={},
        inputs=[],
        rows_per_part=rows_per_part,
        unique=unique,
        schema=schema,
    )


def make(work: Work, loaded: Any, target: Target, rows: int) -> SampleRun:
    """Computes the units of a stage's work on `rows` rows and assembles the parts, as its graph would."""
    begin = time.monotonic()

    def compute(unit: Unit) -> UnitReport:
        with create_unit(STORAGE, target, unit) as writer:
            work.compute(unit, loaded, writer)
        return UnitReport(unit.source, unit.number, writer.counts.rows_written, writer.counts)

    if work.units_at_once == 1:
        reports = [compute(unit) for unit in work.plan()]
    else:
        with ThreadPoolExecutor(work.units_at_once) as pool:
            reports = list(pool.map(compute, work.plan()))
    buckets = plan_buckets(reports) if target.unique else []
    for bucket in buckets:
        find_duplicates(STORAGE, target, bucket, reports)
    for plan in plan_parts(STORAGE, target, reports, len(buckets)):
        assemble_part(STORAGE, target, plan)
    seconds = time.monotonic() - begin
    work_bytes = folder_bytes(target.work_folder)
    return SampleRun(rows, seconds, work_bytes, folder_bytes(target.folder) - work_bytes)


def made_rows(target: Target) -> pa.Table:
    """The rows that `make` has left."""
    paths = [path for path in STORAGE.list_files(target.folder) if not path.startswith(target.work_folder)]
    return pa.Table.from_batches(
        (batch for path in paths for batch in read_batches(STORAGE, path, target.parts_schema)),
        schema=target.parts_schema,
    )


def folder_bytes(folder: str) -> int:
    """Bytes of all files below a folder."""
    return sum(STORAGE.size(path) for path in STORAGE.list_files(folder))


def grow(
    run: Callable[[int], SampleRun],
    *,
    first_rows: int,
    sample_rows: int,
    rows: int,
    enough_seconds: float = ENOUGH_SECONDS,
) -> tuple[SampleRun, SampleRun]:
    """Runs on more and more rows until a run takes long enough to tell the rate.

    Args:
      run: does the work on a number of rows.
      first_rows: of the first run.
      sample_rows: how many different rows there are; more are repetitions, which compress better.
      rows: of the whole input: no run is larger.
      enough_seconds: what the last run takes, if the rows suffice.

    Returns:
      The last run, which tells the rate, and the last one without repetitions, which tells the bytes.
    """
    most = min(rows, max(_MOST_ROWS, sample_rows))
    at_once = min(first_rows, sample_rows, most)
    sized = run(at_once)
    last = sized
    while last.seconds < enough_seconds and at_once < most:
        # the whole sample is one of the runs: the more rows, the truer their bytes
        step = sample_rows if at_once < sample_rows < at_once * _GROWTH else at_once * _GROWTH
        at_once = min(step, most)
        last = run(at_once)
        if at_once <= sample_rows:
            sized = last
    return last, sized
