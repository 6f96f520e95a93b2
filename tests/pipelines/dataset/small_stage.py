"""A stage small enough to know its result by heart, with traps: its records come from a JSON file.

The file holds sources, those hold units, those hold records `[id, rows, fate]`; a fate is `accept` or a
reason to reject or leave out. What is computed is written down in a file beside it, so that a test
sees it whatever process computed it.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.dataset.reader import open_dataset
from pipelines.dataset.target import Target
from pipelines.dataset.unit import Unit, UnitWriter
from pipelines.filesystems import STORAGE
from pipelines.launch import Stage, Task
from pipelines.options import StageSettings, option
from pipelines.sources import raw_inputs
from pipelines.transforms.units import MakeDataset, Work
from rag_core.errors import UsageError
from rag_core.records import LeaveOutReason, Reject, RejectReason
from schemas import TABLES

Record = tuple[str, int, str]
Sources = list[list[list[Record]]]


class RecordsSettings(StageSettings):
    """Options of the stage."""

    records: str = option("the JSON file", path="data")
    flavour: str = option("goes into every text", "plain")
    rows_per_part: int = option("the most rows of a part", 50_000, ge=1)
    unique: bool = option("reject a record whose id was met before", False)
    first_source: int = option("number of the first source", 0)
    trap: str | None = option("a JSON file: which unit fails, and how", None, path="data")
    units_at_once: int = option("units at work at a time", 1, changes_result=False)


class ListRecords(Work):
    """Turns each accepted record into its rows."""

    def __init__(
        self,
        records: str,
        flavour: str = "plain",
        first_source: int = 0,
        trap: str | None = None,
        units_at_once: int = 1,
    ):
        self.units_at_once = units_at_once
        self._records = records
        self._flavour = flavour
        self._first_source = first_source
        self._trap = trap

    def plan(self) -> Iterator[Unit]:
        for source, units in enumerate(read_records(self._records), start=self._first_source):
            for number, records in enumerate(units):
                origins = (f"even-{source}.txt", f"odd-{source}.txt")
                yield Unit(source, number, {"records": records}, origins, records=len(records))

    def compute(self, unit: Unit, loaded: Any, writer: UnitWriter) -> None:
        with open(f"{self._records}.computed", "a") as computed:
            computed.write(f"{unit.source}-{unit.number}\n")
        for position, (record_id, rows, fate) in enumerate(unit.content["records"]):
            writer.read()
            if fate == "accept":
                writer.accept()
                writer.key(record_id, rows=rows, position=position, source=position % 2)
                writer.write(record_rows(record_id, rows, unit, position, self._flavour))
            elif fate in set(LeaveOutReason):
                writer.leave_out(LeaveOutReason(fate))
            else:
                origin = unit.origins[position % 2]
                writer.reject(
                    Reject(origin, position, RejectReason(fate), f"{fate} it is", record_id, "x" * 300)
                )
        if self._trap is not None and Path(self._trap).exists():
            _spring(Trap(**json.loads(Path(self._trap).read_text())), unit, self._trap)


class CopyPassages(Work):
    """Takes the rows of a data set that an earlier task of the run has made."""

    def __init__(self, folder: str):
        self._folder = folder

    def plan(self) -> Iterator[Unit]:
        dataset = open_dataset(STORAGE, self._folder, "passages")
        for part, number, begin, end in dataset.row_ranges(1_000):
            yield Unit(part, number, {"begin": begin, "end": end}, (self._folder,))

    def compute(self, unit: Unit, loaded: Any, writer: UnitWriter) -> None:
        part = open_dataset(STORAGE, self._folder, "passages").parts[unit.source]
        for batch in part.read(STORAGE, "passages", **unit.content):
            writer.accept(batch.num_rows)
            writer.write(batch)


@dataclass
class Trap:
    """What happens at the end of a unit, once its rows are written and before it is committed."""

    unit: str
    how: str


def _spring(trap: Trap, unit: Unit, path: str) -> None:
    if trap.unit != f"{unit.source}-{unit.number}":
        return
    if trap.how == "raise":
        raise RuntimeError("the trap sprang")
    if trap.how == "usage":
        raise UsageError("the model lies elsewhere; give its folder")
    if trap.how == "meet":  # passes once another unit has begun
        begun = Path(path).with_name("records.json")
        deadline = time.monotonic() + 300
        while len(computed(begun)) < 2:
            assert time.monotonic() < deadline, "no other unit began"
            time.sleep(0.01)
    if trap.how == "wait":
        Path(f"{path}.reached").write_text(str(os.getpid()))
        time.sleep(600)


def record_rows(record_id: str, rows: int, unit: Unit, position: int, flavour: str) -> pa.RecordBatch:
    """The rows of a record; the first is called after it, and all tell where it stood."""
    place = f"{unit.source}-{unit.number}-{position}"
    columns = {
        "passage_id": [record_id if row == 0 else f"{record_id}/{row}" for row in range(rows)],
        "document_id": [place] * rows,
        "passage_number": list(range(rows)),
        "title": [""] * rows,
        "text": [f"{flavour} {place}"] * rows,
    }
    return pa.RecordBatch.from_pydict(columns, schema=TABLES["passages"])


def target_of(settings: RecordsSettings) -> Target:
    """What the stage makes."""
    return Target(
        folder=settings.output,
        table="passages",
        stage="records",
        settings=settings.result_settings(),
        inputs=raw_inputs(STORAGE, [settings.records]),
        rows_per_part=settings.rows_per_part,
        max_rejects=settings.max_rejects,
        unique=settings.unique,
    )


def prepare(settings: RecordsSettings, workers: int) -> list[Task]:
    """The one data set."""
    target = target_of(settings)
    work = ListRecords(
        settings.records, settings.flavour, settings.first_source, settings.trap, settings.units_at_once
    )
    return [Task(target, MakeDataset(target, work))]


STAGE = Stage(
    name="records",
    settings=RecordsSettings,
    summary="Lists records.",
    reads="a JSON file",
    writes="passages",
    example="rag-beam records --records records.json --output out/records",
    prepare=prepare,
)
main = STAGE.main


def write_records(path: Path, sources: Sources) -> Path:
    """Makes the stage's input."""
    path.write_text(json.dumps(sources))
    return path


def read_records(path: str) -> Sources:
    """The stage's input."""
    return json.loads(Path(path).read_text())


def computed(path: Path) -> list[str]:
    """The units that were computed so far, in order."""
    log = Path(f"{path}.computed")
    return log.read_text().split() if log.exists() else []


def set_trap(path: Path, unit: str, how: str) -> Path:
    """Arms a trap; removing the file disarms it."""
    path.write_text(json.dumps({"unit": unit, "how": how}))
    return path


if __name__ == "__main__":
    raise SystemExit(main())
