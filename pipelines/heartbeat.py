"""How far a stage is, told through small files in its work folder.

Beam's local runner shows no progress, and a worker may be another process or another machine. So
the worker leaves a note every second, and the launching process draws the bar from the notes.
"""

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterable

from pipelines.dataset.target import Target
from pipelines.dataset.unit import Unit, UnitWriter
from rag_core.storage import Storage, is_local, join

_LOGGER = logging.getLogger("rag_beam")
_SECONDS_BETWEEN_NOTES = 1.0
_SECONDS_BETWEEN_LOG_LINES = 60.0


class Heartbeat:
    """While a unit is computed, tells how many of its records have been read."""

    def __init__(self, target: Target, unit: Unit, writer: UnitWriter):
        self._folder = progress_folder(target)
        self._unit = unit
        self._writer = writer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        logged = time.monotonic()
        pause = 0.0  # the first note at once: who dies in the first second is to be told by it, too
        while not self._stop.wait(pause):
            pause = _SECONDS_BETWEEN_NOTES
            read = self._writer.counts.read
            if is_local(self._folder):
                _note(self._folder, self._unit, read)
            elif time.monotonic() - logged > _SECONDS_BETWEEN_LOG_LINES:
                logged = time.monotonic()
                _LOGGER.info("%s: %d records read", self._unit.label, read)

    @staticmethod
    def announce(storage: Storage, target: Target, units: list[Unit]) -> None:
        """Tells how much there is to do, before the first unit begins; drops an earlier run's notes."""
        storage.remove(progress_folder(target))
        records = [unit.records for unit in units]
        known = sum(record for record in records if record is not None) if None not in records else None
        with storage.create(join(target.work_folder, "total.json")) as file:
            file.write(json.dumps({"units": len(units), "records": known}).encode())

    @staticmethod
    def finished(target: Target, unit: Unit) -> None:
        """Takes the unit's note away: it is committed."""
        folder = progress_folder(target)
        if is_local(folder):
            with contextlib.suppress(OSError):
                os.remove(os.path.join(folder, _note_name(unit)))


def progress_folder(target: Target) -> str:
    """Where workers leave their notes."""
    return join(target.work_folder, "progress")


def read_notes(folder: str) -> Iterable[dict]:
    """The newest note of each unit at work on this machine: its worker's `pid`, `unit`, records `read` of it."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            if name.startswith("."):
                continue  # on its way
            with contextlib.suppress(ValueError, OSError), open(os.path.join(folder, name)) as file:
                yield json.load(file)


def _note_name(unit: Unit) -> str:
    return f"{os.getpid()}-{unit.source}-{unit.number}.json"


def _note(folder: str, unit: Unit, read: int) -> None:
    """Notes may be lost: they are not flushed to disk as results are, and failing to write one is no failure."""
    name = _note_name(unit)
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        temporary = os.path.join(folder, f".{name}")
        with open(temporary, "w") as file:
            json.dump({"pid": os.getpid(), "unit": unit.label, "read": read}, file)
        os.replace(temporary, os.path.join(folder, name))
