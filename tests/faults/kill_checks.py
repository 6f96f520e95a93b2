"""What must hold on the disk after kills: what is whole stays, the end equals an undisturbed run, nothing is left."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipelines.dataset.target import LOCK, WORK
from rag_core.storage import TEMPORARY_MARK
from tests.faults.killed_child import Ending
from tests.pipelines.commands import history_of


class Witness:
    """Follows what runs on one output leave behind and do again, from the first kill to the end."""

    def __init__(self, outputs: Path):
        self._outputs = outputs
        self._whole: set[str] = set()  # units that were whole at a kill, by their file
        self._parts: dict[str, int] = {}  # parts that were whole at a kill, with their inode
        self._checkpoint = 0
        self.begun: Counter[str] = Counter()  # how often each unit, or step of training, was begun
        self.problems: list[str] = []

    def saw(self, ending: Ending) -> int:
        """Looks at what a run did and left; returns how many units (of training: steps) are whole now."""
        again = sorted(self._whole.intersection(ending.noted("unit")))
        self.problems += [f"{unit} was whole and was computed again" for unit in again]
        steps = ending.noted("step")
        if steps and steps[0] < self._checkpoint:
            self.problems.append(f"step {steps[0]} was done again after the checkpoint of {self._checkpoint}")
        self.begun.update(ending.noted("unit"))
        self.begun.update(f"step {step}" for step in steps)
        units = {self._name(path) for path in self._files("units", "[0-9]*.parquet") if not _is_rejects(path)}
        self._whole |= units
        self._checkpoint = max([self._checkpoint, *ending.noted("checkpoint")])
        self._look_at_parts()
        return len(units) + self._checkpoint

    def _look_at_parts(self) -> None:
        """A part that was assembled is taken as it is: the same file, not one like it."""
        parts = {
            self._name(path): path.stat().st_ino
            for path in self._outputs.rglob("part-*.parquet")
            if path.parent.name != "rejects"
        }
        for name in self._parts.keys() & parts.keys():
            if self._parts[name] != parts[name]:
                self.problems.append(f"{name} was whole and was assembled again")
        self._parts |= parts

    def again(self) -> list[str]:
        """What was begun more than once, each as often as that."""
        return list((self.begun - Counter(dict.fromkeys(self.begun, 1))).elements())

    def _files(self, folder: str, pattern: str) -> Iterable[Path]:
        return (path for path in self._outputs.rglob(pattern) if path.parent.name == folder)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._outputs).as_posix()


def differences(made: Path, expected: Path) -> list[str]:
    """What differs between a folder and that of an undisturbed run; what must not be in either."""
    mine, theirs = _files_of(made), _files_of(expected)
    found = [f"{name}: is left behind" for name in sorted(_all_of(made)) if _is_temporary(name)]
    found += [f"{name}: is missing" for name in sorted(theirs.keys() - mine.keys())]
    found += [f"{name}: is not in an undisturbed run" for name in sorted(mine.keys() - theirs.keys())]
    for name in sorted(mine.keys() & theirs.keys()):
        if _content(mine[name]) != _content(theirs[name]):
            found.append(f"{name}: has other bytes than in an undisturbed run")
    return found


def lost_locks(outputs: Path) -> list[str]:
    """Locks that lie in the outputs of runs that have ended."""
    return sorted(path.relative_to(outputs).as_posix() for path in outputs.rglob(LOCK))


def _content(path: Path) -> Any:
    """The bytes of a file; of what tells the seconds of a training all else."""
    if path.name == "history.parquet":
        return history_of(path.parent)
    if path.name != "manifest.json":
        return path.read_bytes()
    manifest = json.loads(path.read_text())
    if manifest["table"] != "model":
        return path.read_bytes()
    del manifest["checksum"], manifest["details"]["training"]["seconds"]
    return manifest | {"parts": [[part["name"], part["rows"]] for part in manifest["parts"]]}


def _is_rejects(path: Path) -> bool:
    return path.name.endswith(".rejects.parquet")


def _is_temporary(name: str) -> bool:
    last = name.rsplit("/", 1)[-1]
    return TEMPORARY_MARK in last or last in (WORK, LOCK)


def _all_of(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*")]


def _files_of(folder: Path) -> dict[str, Path]:
    return {name: folder / name for name in _all_of(folder) if (folder / name).is_file()}
