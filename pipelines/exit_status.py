"""How a command ends: its exit status and, where it ends early, one sentence."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.local_workers import WorkerDied
from pipelines.terminal import printable_lines
from rag_core.errors import RagBeamError, path_refused

_ENDINGS: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Interrupted(BaseException):
    """A signal asked this process to end."""


@dataclass
class ExitStatus:
    """What the process is to end with."""

    code: int = 0


@contextlib.contextmanager
def exit_status() -> Iterator[ExitStatus]:
    """Turns what ends a command into its exit status and, where it is ours, one sentence."""
    status = ExitStatus()
    received: list[int] = []

    def interrupt(signum: int, frame: Any) -> None:
        received.append(signum)
        raise Interrupted

    # a shell that starts a command in the background has SIGINT ignored: it stays so
    heeded = [number for number in _ENDINGS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, interrupt) for number in heeded}
    try:
        yield status
        if sys.stdout is not None:  # closed before we began
            sys.stdout.flush()
    except BaseException as error:
        if received:  # whatever the error is now: Beam wraps what passes through a DoFn in a RuntimeError
            _stop_at_once(received[0])
        failure = _told(error)
        if failure is None:
            raise
        print(printable_lines(f"rag-beam: {failure}"), file=sys.stderr, flush=True)
        if isinstance(error, WorkerDied):
            _exit_at_once(error.exit_status)
        status.code = failure.exit_status
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _told(error: BaseException) -> RagBeamError | None:
    """The error as one that is told in a sentence; None where it is not understood."""
    if isinstance(error, RagBeamError):
        return error
    if isinstance(error, BrokenPipeError):
        # what is still in the buffer would fail again when the process ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return RagBeamError(
            "nobody reads the standard output any more; what was made is kept, and the command can be given again"
        )
    return path_refused(error)


def _stop_at_once(signum: int) -> None:
    print(
        f"rag-beam: {_ENDINGS[signum]}; what is whole is kept, the same command goes on from there",
        file=sys.stderr,
        flush=True,
    )
    _exit_at_once(128 + signum)


def _exit_at_once(status: int) -> None:
    """Ends the process without waiting for the threads that Beam runs bundles in."""
    sys.stdout.flush()
    os._exit(status)
