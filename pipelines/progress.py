"""Shows how far a stage is: a bar on a terminal, else a plain line now and then."""

import json
import re
import sys
import threading
import time
from types import TracebackType

from tqdm import tqdm

from pipelines.dataset.target import Target
from pipelines.filesystems import STORAGE
from pipelines.heartbeat import progress_folder, read_notes
from rag_core.errors import RagBeamError
from rag_core.storage import file_name, join
from rag_core.tables import inspect_table

_POLL_SECONDS = 0.5
# many units, or an object store, make looking slow: it may take one part in so many of the time
_POLL_REST = 20
_SECONDS_BETWEEN_LINES = 30.0
_UNIT_ROWS = re.compile(r"\d+-\d+\.parquet")


class Progress:
    """Draws what the workers' notes tell, from a thread of the launching process."""

    def __init__(self, targets: list[Target], mode: str):
        self._views = [_View(target) for target in targets] if mode == "auto" else []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> "Progress":
        if self._views:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._views:
            self._thread.join()
        for view in self._views:
            view.close(completed=kind is None)

    def _run(self) -> None:
        pause = _POLL_SECONDS
        while not self._stop.wait(pause):
            began = time.monotonic()
            for view in self._views:
                view.update()
            pause = max(_POLL_SECONDS, _POLL_REST * (time.monotonic() - began))


class _View:
    """One data set's bar, or its lines. Counts records where their number is known, else units."""

    def __init__(self, target: Target):
        self._target = target
        self._title = f"{target.stage}: {target.table}"
        self._bar: tqdm | None = None
        self._total: dict | None = None
        self._began = self._last_line = time.monotonic()
        self._units: set[str] = set()  # committed
        self._records = 0  # of committed units
        self._at_start = 0

    def update(self) -> None:
        if self._total is None and not self._begin():
            return
        self._count_committed()
        in_hand = sum(note["read"] for note in read_notes(progress_folder(self._target)))
        done = self._done(self._records + in_hand)
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = self._make_bar()
            self._bar.update(max(0, done - self._bar.n))
            self._bar.set_postfix_str(self._state(self._records + in_hand))
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            rate = (done - self._at_start) / (time.monotonic() - self._began)
            left = (
                f"about {(self._whole - done) / rate:.0f} s left" if rate > 0 else "time left not known yet"
            )
            print(
                f"{self._title}: {self._state(self._records + in_hand)}, {rate:.1f} {self._unit}/s, {left}",
                file=sys.stderr,
                flush=True,
            )

    def close(self, completed: bool) -> None:
        if self._bar is not None:
            if completed:
                self._bar.update(self._whole - self._bar.n)
            self._bar.close()

    def _begin(self) -> bool:
        try:
            with STORAGE.open(join(self._target.work_folder, "total.json")) as file:
                self._total = json.loads(file.read())
        except FileNotFoundError:
            return False
        self._count_committed()  # what an earlier run left does not count for the rate
        self._at_start = self._done(self._records)
        self._began = self._last_line = time.monotonic()
        return True

    def _count_committed(self) -> None:
        for path in STORAGE.list_files(self._target.units_folder):
            name = file_name(path)
            if path in self._units or name.startswith(".") or not _UNIT_ROWS.fullmatch(name):
                continue
            try:
                footer = inspect_table(STORAGE, path).footer
            except (OSError, RagBeamError):  # the unit was removed meanwhile: the stage is done
                continue
            self._units.add(path)
            self._records += footer["counts"]["read"] if footer else 0

    def _done(self, records: int) -> int:
        return records if self._unit == "records" else len(self._units)

    @property
    def _unit(self) -> str:
        return "records" if self._total and self._total["records"] else "units"

    @property
    def _whole(self) -> int:
        return self._total[self._unit] if self._total else 0

    def _state(self, records: int) -> str:
        units = self._total["units"] if self._total else 0
        return f"{len(self._units):,} of {units:,} units, {records:,} records"

    def _make_bar(self) -> tqdm:
        return tqdm(
            total=self._whole,
            initial=self._at_start,
            desc=self._title,
            unit=f" {self._unit}",
            file=sys.stderr,
        )
