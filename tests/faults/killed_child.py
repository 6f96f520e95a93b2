"""Commands in processes of their own, forked from one that has imported everything, so that a kill costs little."""

import gc
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tests.faults.kill_moments import Blow, Watch, strike
from tests.forked import CONTEXT

_SECONDS_TO_BEGIN = 300  # the first process waits for the imports of the one that it is forked from
_SECONDS_TO_END = 600

_STARTING = threading.Lock()  # starting a process looks after those that others wait for


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    Attributes:
      pid: of its process.
      status: the exit status; negative where a signal ended it, as `subprocess` has it.
      seconds: from when it heeded signals to its end.
      notes: what it noted of its work, in order.
      out: what it wrote to stdout.
      err: and to stderr.
    """

    pid: int
    status: int
    seconds: float
    notes: list[dict[str, Any]]
    out: str
    err: str

    def noted(self, name: str) -> list[Any]:
        """The notes of one name."""
        return [note[name] for note in self.notes if name in note]


class Child:
    """A command at work, in a session of its own."""

    def __init__(self, argv: Sequence[str], outputs: Path, desk: Path, blow: Blow | None = None):
        """Starts it.

        Args:
          argv: what follows `rag-beam`.
          outputs: the folder below which its changes are watched; its first level names the steps.
          desk: a folder for what it says and notes, and for its temporary files.
          blow: what will strike it: at a moment it strikes itself, at a time `ending` does.
        """
        self._desk, self._blow = desk, blow
        desk.mkdir(parents=True, exist_ok=True)
        self._ready, ready = CONTEXT.Pipe(duplex=False)
        self._process = CONTEXT.Process(
            target=_run_command, args=(list(argv), str(outputs), str(desk), blow, ready), daemon=False
        )
        with _STARTING:
            self._process.start()
        ready.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        assert self._ready.poll(_SECONDS_TO_BEGIN), f"{argv}: did not begin"
        self._ready.recv_bytes()
        self._began = time.monotonic()

    def ending(self) -> Ending:
        """Strikes at the time chosen, and waits for the end."""
        blow = self._blow
        if blow is not None and blow.seconds is not None and not self._ends_within(blow.seconds):
            strike(self.pid, blow.signum)
        if not self._ends_within(_SECONDS_TO_END):
            strike(self.pid, signal.SIGKILL)
            raise AssertionError(f"process {self.pid} did not end: {self._said('err')}")
        seconds = time.monotonic() - self._began
        with _STARTING:
            status = self._process.exitcode
        assert status is not None
        notes = [json.loads(line) for line in self._said("notes").splitlines()]
        return Ending(self.pid, status, seconds, notes, self._said("out"), self._said("err"))

    def has_ended(self) -> bool:
        """Whether it has."""
        return self._ends_within(0)

    def _ends_within(self, seconds: float) -> bool:
        return bool(wait([self._process.sentinel], seconds))

    def _said(self, name: str) -> str:
        path = self._desk / name
        return path.read_text() if path.exists() else ""


def call(function: Callable[..., None], *arguments: Any) -> None:
    """Calls a function in a forked process, for what it imports."""
    process = CONTEXT.Process(target=function, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0, f"{function.__name__} ended with status {process.exitcode}"


def _run_command(argv: list[str], outputs: str, desk: str, blow: Blow | None, ready: Connection) -> None:
    import transformers

    from pipelines import cli
    from tests.pipelines.beam_findings import remembered

    os.setsid()
    gc.freeze()  # a collection would copy all that the process shares with the one that it was forked from
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(os.path.join(desk, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    tempfile.tempdir = os.path.join(desk, "temporary")
    os.makedirs(tempfile.tempdir, exist_ok=True)
    transformers.utils.logging.disable_progress_bar()  # no two runs of it have the same lines
    note = _Notes(os.path.join(desk, "notes"))
    _note_work(note, outputs)
    watch = Watch(outputs, blow)
    sys.addaudithook(watch)
    _announce_when_signals_are_heeded(ready)
    with remembered():
        status = cli.main(argv)
    note(moments=dict(watch.seen))
    sys.stdout.flush()
    os._exit(status)


class _Notes:
    """Lines of JSON that are on the disk when the call returns, whatever becomes of the process."""

    def __init__(self, path: str):
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)

    def __call__(self, **content: Any) -> None:
        os.write(self._descriptor, json.dumps(content).encode() + b"\n")


def _note_work(note: _Notes, outputs: str) -> None:
    """Notes each unit before it is computed and after it, each step of training, each checkpoint."""
    from pipelines.dataset.unit import unit_path
    from pipelines.transforms.units import ComputeUnitFn
    from rag_core.training.run import TrainingRun

    compute, step, save_checkpoint = ComputeUnitFn._compute, TrainingRun.step, TrainingRun.save_checkpoint

    def noted_compute(self: Any, unit: Any) -> Any:
        path = os.path.relpath(unit_path(self._target, unit, "parquet"), outputs)
        note(unit=path)
        report = compute(self, unit)
        note(computed=[path, report.counts.read])
        return report

    def noted_step(self: Any) -> Any:
        note(step=self.steps_done)
        return step(self)

    def noted_save(self: Any, *arguments: Any) -> None:
        save_checkpoint(self, *arguments)
        note(checkpoint=self.steps_done)

    ComputeUnitFn._compute = noted_compute
    TrainingRun.step, TrainingRun.save_checkpoint = noted_step, noted_save


def _announce_when_signals_are_heeded(ready: Connection) -> None:
    """Tells when the command has installed its handlers; those it found, it does not get back.

    A signal that comes when the command has ended must find a process that has nothing left to say.
    """
    install = signal.signal
    install(
        signal.SIGINT, signal.default_int_handler
    )  # ignored where the bench is a shell's job in the background
    heeded = set()

    def announce(number: int, handler: Any) -> Any:
        if number in heeded:
            return install(number, signal.SIG_IGN)
        previous = install(number, handler)
        heeded.add(number)
        if heeded == {signal.SIGINT, signal.SIGTERM}:
            ready.send_bytes(b"ready")
        return previous

    signal.signal = announce
