"""Work on this machine, in this process or in others: the main thread waits, and heeds signals and dead workers."""

import contextlib
import os
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from pipelines.dataset.target import Target
from pipelines.heartbeat import progress_folder, read_notes
from rag_core.errors import RagBeamError

_POLL_SECONDS = 0.2


def run_beside(run: Callable[[FnApiRunner], None]) -> None:
    """Runs a pipeline whose work this process does, in a thread of its own.

    Beam would do it in the calling thread. In the main one a signal would then wait for what is at work: here
    it ends the process at once.

    Args:
      run: takes the runner, and returns when the pipeline has ended.
    """
    outcome: list[BaseException | None] = []
    thread = threading.Thread(target=_keep_outcome, args=(run, FnApiRunner(), outcome), daemon=True)
    thread.start()
    thread.join()
    if outcome[0] is not None:
        raise outcome[0]


class WorkerDied(RagBeamError):
    """A worker process ended before the work did. The runner still waits: only ending the process stops it."""


def run_with_workers(run: Callable[[FnApiRunner], None], targets: Iterable[Target]) -> None:
    """Runs a pipeline whose workers are processes of this machine.

    Args:
      run: takes the runner, and returns when the pipeline has ended.
      targets: what is being made; the workers' notes in their work folders tell who was at what.

    Raises:
      WorkerDied: a worker ended with an error or was killed; the message names its unit.
    """
    with tempfile.TemporaryDirectory(prefix="rag-beam-", ignore_cleanup_errors=True) as folder:
        workers = _Workers(Path(folder))
        outcome: list[BaseException | None] = []
        thread = threading.Thread(target=_keep_outcome, args=(run, workers.runner(), outcome), daemon=True)
        thread.start()
        try:
            while not outcome and not workers.statuses():
                thread.join(_POLL_SECONDS)
            thread.join(_POLL_SECONDS)  # the pipeline may be about to end by itself
            if workers.statuses() and outcome != [None]:
                print(workers.said(), end="", file=sys.stderr)
                raise WorkerDied(_message(workers.statuses()[0], targets))
        finally:
            if not outcome:
                workers.kill()
        if outcome[0] is not None:
            raise outcome[0]


class _Workers:
    """The processes that Beam starts, and what a shell around each writes down of it."""

    def __init__(self, folder: Path):
        self._pids, self._statuses, self._said = folder / "pids", folder / "statuses", folder / "stderr"

    def runner(self) -> FnApiRunner:
        """Beam's local runner that starts them.

        What they say on stderr is kept apart: when a run ends early, each complains at length of a
        runner that is gone. As jobs in a shell's background they ignore a terminal's Ctrl-C, which
        the launching process heeds. Each is noted before it begins, and does not begin where that
        fails: `kill` misses none.
        """
        pids, statuses, said = (shlex.quote(str(path)) for path in (self._pids, self._statuses, self._said))
        worker = f"{shlex.quote(sys.executable)} -m pipelines.worker"
        noted = f"""sh -c 'echo $$ >> "$0" && exec "$@"' {pids} {worker}"""
        command = f"exec 2>> {said}; trap '' INT; {noted} & wait $! || echo $? >> {statuses}"
        return FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(command))

    def statuses(self) -> list[int]:
        """How those ended that did not end well."""
        return [int(line) for line in _read(self._statuses).split()]

    def said(self) -> str:
        """What they wrote to stderr."""
        return _read(self._said)

    def kill(self) -> None:
        """Ends them all. The process must end next: Beam's threads still wait for them."""
        threading.excepthook = lambda failure: None  # those threads will say so, too
        for pid in _read(self._pids).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _keep_outcome(
    run: Callable[[FnApiRunner], None], runner: FnApiRunner, outcome: list[BaseException | None]
) -> None:
    try:
        run(runner)
    except BaseException as error:
        outcome.append(error)
    else:
        outcome.append(None)


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _message(status: int, targets: Iterable[Target]) -> str:
    notes = [note for target in targets for note in read_notes(progress_folder(target))]
    units = [note["unit"] for note in notes if not _is_alive(note["pid"])]
    how = f"was killed by signal {status - 128}" if status > 128 else f"ended with status {status}"
    reason = " (the system kills what takes too much memory)" if status == 128 + signal.SIGKILL else ""
    where = f" while it computed {units[0]}" if units else ""
    return (
        f"a worker process {how}{reason}{where}. What is whole is kept; run the command again, with fewer "
        "--direct_num_workers where memory is short"
    )


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
