"""Ends a test that hangs, saying where it stands, and measures in a process of its own what one needs."""

import contextlib
import faulthandler
import multiprocessing
import resource
import sys
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from rag_core.peak_memory import PeakMemory

HANG_SECONDS = 300
_MOST_MEMORY_BYTES = 6 << 30  # beyond what any test allows: the machine is not to run out of it


@contextlib.contextmanager
def watched(seconds: int = HANG_SECONDS) -> Iterator[None]:
    """Ends the process with the stack of each thread where the block takes so long that it must be endless."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def peak_bytes(function: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    """What a function gives, run in a process of its own, and by how much it enlarged that process."""
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sending, function, arguments))
    process.start()
    sending.close()
    try:
        outcome, grown = receiving.recv()
    except EOFError as error:
        process.join()
        raise AssertionError(f"the process ended with {process.exitcode}") from error
    process.join()
    assert not isinstance(outcome, _Failure), outcome.text
    return outcome, grown


class _Failure:
    def __init__(self, text: str):
        self.text = text


def _measure(sending: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    address_space = _pages()[0]
    resource.setrlimit(resource.RLIMIT_AS, (address_space + _MOST_MEMORY_BYTES,) * 2)
    before = _pages()[1]
    try:
        with watched(), PeakMemory() as peak:
            outcome = function(*arguments)
    except BaseException:
        outcome = _Failure(traceback.format_exc())
    sending.send((outcome, max(0, peak.anonymous - before)))


def _pages() -> tuple[int, int]:
    """Bytes of address space, and of anonymous memory that is resident."""
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["VmSize"].split()[0]) << 10, int(fields["RssAnon"].split()[0]) << 10
