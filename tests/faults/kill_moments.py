"""When a run is struck: after a time, or as it is about to change a file, told by Python's audit events.

A command's state on disk changes only by opening, renaming and removing files. Python announces each of
these before it is done, so that a blow at the announcement falls exactly between two of them: between a
unit's last byte and its name, between the last part and the manifest, in the midst of clearing up.
"""

import os
import signal
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

from rag_core.storage import TEMPORARY_MARK

_CHANGES = {
    "open": 0,
    "os.mkdir": 0,
    "os.chmod": 0,
    "os.rename": 1,
    "os.remove": 0,
    "os.rmdir": 0,
}  # the path's place
_REMOVALS = ("os.remove", "os.rmdir")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Blow:
    """What strikes a run, and when.

    Attributes:
      signum: the signal.
      seconds: after the command has begun to heed signals; None where a moment decides.
      moment: `step/phase`, as `moment_of` names it.
      count: at which of the moments of that name.
    """

    signum: int
    seconds: float | None = None
    moment: str = ""
    count: int = 0

    def __str__(self) -> str:
        when = f"at {self.seconds:.2f} s" if self.seconds is not None else f"at {self.moment} {self.count}"
        return f"{signal.Signals(self.signum).name} {when}"


@dataclass(frozen=True)
class Undisturbed:
    """What a run does when nothing happens to it.

    Attributes:
      seconds: how long it takes.
      moments: how often each moment occurs.
    """

    seconds: float
    moments: dict[str, int]


def draw(random: Random, undisturbed: Undisturbed, signals: list[int]) -> Blow:
    """By turns a time within the whole duration, and a moment of a phase, all phases alike."""
    signum = random.choice(signals)
    if random.random() < 0.5:
        return Blow(signum, seconds=random.uniform(0, undisturbed.seconds))
    moment = random.choice(sorted(undisturbed.moments))
    return Blow(signum, moment=moment, count=random.randint(1, undisturbed.moments[moment]))


class Watch:
    """An audit hook that counts the moments of a process, and strikes it at the one chosen."""

    def __init__(self, folder: str, blow: Blow | None):
        """Looks at changes below `folder` only."""
        self.seen: Counter[str] = Counter()
        self._folder = folder + "/"
        self._blow = blow

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _CHANGES:
            return
        path = arguments[_CHANGES[event]]
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & _WRITING):
            return
        if not isinstance(path, str):
            return
        folder_descriptor = arguments[-1] if event in (*_REMOVALS, "os.mkdir") else -1
        if folder_descriptor >= 0:  # a tree is removed by descriptors
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder_descriptor}"), path)
        if not path.startswith(self._folder):
            return
        step, _, below = path[len(self._folder) :].partition("/")
        phase = phase_of(event, below)
        if phase is None:
            return
        moment = f"{step}/{phase}"
        self.seen[moment] += 1
        if self._blow and (moment, self.seen[moment]) == (self._blow.moment, self._blow.count):
            strike(os.getpid(), self._blow.signum)


def strike(pid: int, signum: int) -> None:
    """Sends the signal: SIGKILL to all processes of the group that `pid` leads, others to itself."""
    if signum == signal.SIGKILL:
        os.killpg(pid, signum)
    else:
        os.kill(pid, signum)


def phase_of(event: str, below: str) -> str | None:
    """What a run is at when it is about to change the path `below` its output.

    None for what comes and goes with the clock: the notes of progress.
    """
    folders, _, name = f"/{below}".rpartition("/")
    if TEMPORARY_MARK in name:
        name = name[1 : name.index(TEMPORARY_MARK)]
    elif event in _REMOVALS:
        return "clearing up" if "/progress" not in below else None
    if "/progress" in folders or name == "progress":
        return None
    if folders.endswith("/units"):
        return "unit"
    if folders.endswith("/duplicates"):
        return "duplicates"
    if folders.endswith("/rejects"):
        return "rejects"
    if event == "os.mkdir" or name in (".lock", "plan.json", "total.json"):
        return "claiming"
    if name == "checkpoint.pt":
        return "checkpoint"
    where = "inner " if below.startswith(".work/") else ""
    return where + ("manifest" if name == "manifest.json" else "part")
