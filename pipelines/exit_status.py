"""How a command ends: its exit status and, where it ends early, one sentence."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
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
    """What the process is to end with.

    Attributes:
      at_end: is told the exit status once, just before the command ends, in whatever way; None: nobody is.
    """

    code: int = 0
    at_end: Callable[[int], None] | None = None

    def tell(self, code: int) -> None:
        """Tells it to whoever wants to know."""
        at_end, self.at_end = self.at_end, None
        if at_end is not None:
            at_end(code)


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
        status.tell(status.code)
    except BaseException as error:
        if received:  # whatever the error is now: Beam wraps what passes through a DoFn in a RuntimeError
            _stop_at_once(received[0], status)
        failure = _told(error)
        if failure is None:
            _tell_failure(status, RagBeamError.exit_status)
            raise
        print(printable_lines(f"rag-beam: {failure}"), file=sys.stderr, flush=True)
        _tell_failure(status, failure.exit_status)
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


def _tell_failure(status: ExitStatus, code: int) -> None:
    """Tells the exit status of a command that fails; a failure of the telling is no more than said."""
    try:
        status.tell(code)
    except RagBeamError as error:
        print(printable_lines(f"rag-beam: {error}"), file=sys.stderr, flush=True)


def _stop_at_once(signum: int, status: ExitStatus) -> None:
    print(
        f"rag-beam: {_ENDINGS[signum]}; what is whole is kept, the same command goes on from there",
        file=sys.stderr,
        flush=True,
    )
    _tell_failure(status, 128 + signum)
    _exit_at_once(128 + signum)


def _exit_at_once(status: int) -> None:
    """Ends the process without waiting for the threads that Beam runs bundles in."""
    sys.stdout.flush()
    os._exit(status)
