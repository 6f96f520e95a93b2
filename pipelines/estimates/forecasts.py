"""What a step is estimated to take, and what is known beforehand of the inputs of later ones."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.dataset.reader import Dataset, open_dataset
from pipelines.filesystems import STORAGE
from rag_core.errors import UsageError

SAMPLE_ROWS = 2_000
_SAMPLE_RUNS = 16  # a part is hashed before a row of it is read: few parts are touched


@dataclass(frozen=True)
class Estimate:
    """What a step will take and leave.

    Attributes:
      rows: of its output.
      seconds: of the whole step.
      disk_bytes: of its output folder when the step has ended.
      peak_disk_bytes: of the same folder shortly before, with units and parts side by side.
      memory_bytes: allocated by the process at its peak; mapped files come on top.
      parts: files of the output.
      notes: what the numbers leave out.
      sample: rows as the step would write them, for the estimates of later steps.
    """

    rows: int
    seconds: float
    disk_bytes: int
    peak_disk_bytes: int
    parts: int
    notes: tuple[str, ...] = ()
    memory_bytes: int = 0
    sample: pa.Table | None = None

    def to_json(self) -> dict[str, Any]:
        """All but the sample."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if name != "sample"}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Estimate":
        """What `to_json` gave."""
        return cls(**{**content, "notes": tuple(content["notes"])})


class NothingKnown(UsageError):
    """An earlier step of the plan could not be estimated, so nothing can be said of what reads its output."""


@dataclass(frozen=True)
class Forecast:
    """What is known of an input: its size, exact or estimated, and some of its rows."""

    rows: int
    parts: int
    sample: pa.Table

    def parts_of(self, rows_per_part: int) -> int:
        """Parts of an output with a row for each row here: sources never share a part."""
        return self.parts * max(1, math.ceil(self.rows / self.parts / rows_per_part))


class Forecasts:
    """What each path holds or will hold, for the steps that read it."""

    def __init__(self) -> None:
        self._estimates: dict[str, Estimate | None] = {}

    def add(self, folder: str, estimate: Estimate | None) -> None:
        """Remembers what an earlier step of the plan will leave in its folder, as far as that is known."""
        self._estimates[folder] = estimate

    def estimated(self, path: str) -> Forecast | None:
        """What an earlier step of the plan will leave there; None where none is to.

        Raises:
          NothingKnown: one is to leave it, but nothing of its rows is known.
        """
        if path not in self._estimates:
            return None
        estimate = self._estimates[path]
        if estimate is None or estimate.sample is None or not estimate.sample.num_rows:
            raise NothingKnown(f"{path}: could not be estimated; run its step first, then plan the others")
        return Forecast(estimate.rows, estimate.parts, estimate.sample)

    def of(self, path: str, table: str, *, sample_rows: int = SAMPLE_ROWS) -> Forecast:
        """What `path` holds, or will hold when the earlier steps are done.

        Raises:
          NothingKnown: see `estimated`.
          UsageError: as a stage that reads it would raise it.
        """
        estimated = self.estimated(path)
        if estimated is not None:
            return estimated
        dataset = open_dataset(STORAGE, path, table)
        return Forecast(dataset.rows, len(dataset.parts), _sample(dataset, sample_rows))


def _sample(dataset: Dataset, rows: int) -> pa.Table:
    """Some rows in a few runs, evenly spaced over the whole; all where there are no more."""
    if dataset.rows <= rows:
        return pa.Table.from_batches(dataset.read(STORAGE))
    run = rows // _SAMPLE_RUNS
    begins = np.linspace(0, dataset.rows - run, _SAMPLE_RUNS).astype(int).tolist()
    return pa.Table.from_batches(
        batch for begin in begins for batch in dataset.read(STORAGE, begin=begin, end=begin + run)
    )


def evenly(table: pa.Table, rows: int) -> pa.Table:
    """`rows` rows of a table, evenly spaced; repeated in order where it has fewer."""
    if rows <= table.num_rows:
        return table.take(np.linspace(0, table.num_rows - 1, rows).astype(int))
    return table.take(np.arange(rows) % table.num_rows)
