"""Stages that make a row of each row with a model: encoding, generating, classifying."""

import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from pipelines.dataset.reader import Dataset
from pipelines.estimates.forecasts import Estimate, Forecast, evenly
from pipelines.estimates.sample_run import (
    ENOUGH_SECONDS,
    SampleRun,
    grow,
    made_rows,
    make,
    sample_target,
    stored,
    temporary_folder,
)
from pipelines.transforms.devices import default_workers
from pipelines.transforms.units import Work


def estimate_rows(
    given: Forecast,
    table: str,
    made: str,
    work_on: Callable[[Dataset], Work],
    load: Callable[[], Any],
    *,
    schema_of: Callable[[Any], pa.Schema] | None = None,
    first_rows: int,
    enough_seconds: float = ENOUGH_SECONDS,
    parts: int,
    processes: int = 1,
    notes: tuple[str, ...] = (),
) -> Estimate:
    """A stage that makes one row of each row, with a model.

    Args:
      given: the input.
      table: of the input.
      made: table of the output.
      work_on: the stage's work on a sample of the input.
      load: loads the model.
      schema_of: the output's schema from the model; None: the table's own.
      first_rows: of the first run.
      enough_seconds: what the last run is to take.
      parts: files of the output.
      processes: how many share the rows, each with a device of its own.
      notes: what is left out.
    """
    begin = time.monotonic()
    loaded = load()
    load_seconds = time.monotonic() - begin
    sample: pa.Table | None = None

    def run(rows: int) -> SampleRun:
        nonlocal sample
        with temporary_folder() as folder:
            dataset = stored(folder, table, evenly(given.sample, rows))
            target = sample_target(folder, made, schema_of(loaded) if schema_of else None)
            took = make(work_on(dataset), loaded, target, rows)
            if rows <= given.sample.num_rows:
                sample = made_rows(target)
        return took

    different = given.sample.num_rows
    first = run(min(first_rows, different))
    last, sized = grow(
        run, first_rows=first.rows, sample_rows=different, rows=given.rows, enough_seconds=enough_seconds
    )
    return last.estimate(
        given.rows,
        parts=parts,
        load_seconds=load_seconds + warm_up_seconds(first, last),
        sized=sized,
        processes=processes,
        notes=notes,
        sample=sample,
    )


def warm_up_seconds(first: SampleRun, last: SampleRun) -> float:
    """What a model's first run took beyond the rate that was found later: it happens once a process."""
    return max(0.0, first.seconds - last.seconds * first.rows / last.rows)


def devices_used(device: str, workers: int) -> int:
    """How many processes compute side by side, each on a GPU of its own; on a CPU they share the cores."""
    return min(workers, default_workers(device))
