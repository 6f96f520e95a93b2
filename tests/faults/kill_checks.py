"""What must hold on the disk after kills: what is whole stays, the end equals an undisturbed run, nothing is left."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.dataset.target import LOCK, WORK
from rag_core.storage import TEMPORARY_MARK
from tests.faults.killed_child import Ending
from tests.pipelines.commands import history_of

_MEASURED = {"seconds", "build_seconds", "peak_bytes", "questions_per_second"}  # of a training or an index


class Witness:
    """Follows what runs on one output leave behind and do again, from the first kill to the end."""

    def __init__(self, outputs: Path, steps: list[str]):
        """Looks at the folders of these steps below `outputs`."""
        self._outputs, self._steps = outputs, steps
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
        units = {
            self._name(path)
            for path in self._files("[0-9]*.parquet")
            if path.parent.name == "units" and not path.name.endswith(".rejects.parquet")
        }
        self._whole |= units
        self._checkpoint = max([self._checkpoint, *ending.noted("checkpoint")])
        self._look_at_parts()
        return len(units) + self._checkpoint

    def _look_at_parts(self) -> None:
        """A part that was assembled is taken as it is: the same file, not one like it."""
        parts = {
            self._name(path): path.stat().st_ino
            for path in self._files("part-*.parquet")
            if path.parent.name != "rejects"
        }
        for name in self._parts.keys() & parts.keys():
            if self._parts[name] != parts[name]:
                self.problems.append(f"{name} was whole and was assembled again")
        self._parts |= parts

    def locks_of(self, pid: int) -> list[str]:
        """The locks that a process has left; one of a run killed before it may still be there."""
        return [self._name(path) for path in self._files(LOCK) if f'"pid": {pid},' in path.read_text()]

    def again(self) -> list[str]:
        """What was begun more than once, each as often as that."""
        return list((self.begun - Counter(dict.fromkeys(self.begun, 1))).elements())

    def _files(self, pattern: str) -> Iterator[Path]:
        for step in self._steps:
            yield from (self._outputs / step).rglob(pattern)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._outputs).as_posix()


def differences(made: Path, expected: Path) -> list[str]:
    """What differs between a step's folder and that of an undisturbed run; what must not be in either."""
    outputs = str(made.parent), str(expected.parent)
    mine, theirs = _files_of(made), _files_of(expected)
    found = [f"{name}: is left behind" for name in sorted(_all_of(made)) if _is_temporary(name)]
    found += [f"{name}: is missing" for name in sorted(theirs.keys() - mine.keys())]
    found += [f"{name}: is not in an undisturbed run" for name in sorted(mine.keys() - theirs.keys())]
    for name in sorted(mine.keys() & theirs.keys()):
        if name == "manifest.json":
            same = _manifest(mine[name], *outputs) == _manifest(theirs[name], *outputs)
        elif name == "history.parquet":
            same = history_of(made) == history_of(expected)
        else:
            same = mine[name].read_bytes() == theirs[name].read_bytes()
        if not same:
            found.append(f"{name}: is not equal to that of an undisturbed run")
    return found


def _manifest(path: Path, *outputs: str) -> dict[str, Any]:
    """All of a manifest but in which of the folders the inputs lie, and what was measured."""
    text = path.read_text()
    for folder in outputs:
        text = text.replace(folder, "OUTPUTS")
    manifest: dict[str, Any] = json.loads(text, object_pairs_hook=_without_measured)
    del manifest["checksum"]
    if manifest["table"] == "model":
        manifest["parts"] = [[part["name"], part["rows"]] for part in manifest["parts"]]
    return manifest


def _without_measured(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in pairs if name not in _MEASURED}


def _is_temporary(name: str) -> bool:
    last = name.rsplit("/", 1)[-1]
    return TEMPORARY_MARK in last or last in (WORK, LOCK)


def _all_of(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*")]


def _files_of(folder: Path) -> dict[str, Path]:
    return {name: folder / name for name in _all_of(folder) if (folder / name).is_file()}
