"""The memory of this process while something runs, what it allocated apart from mapped files."""

import contextlib
import threading

_LOOKS_EVERY_SECONDS = 0.05


class PeakMemory(contextlib.AbstractContextManager["PeakMemory"]):
    """The largest resident memory while the block runs, looked at 20 times a second (Linux).

    Attributes:
      anonymous: bytes that were allocated.
      mapped: bytes of files mapped; the system takes these back when others need memory.
    """

    def __init__(self) -> None:
        self.anonymous = self.mapped = 0
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._watcher.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._watcher.join()

    def _watch(self) -> None:
        while True:
            self._look()
            if self._ended.wait(_LOOKS_EVERY_SECONDS):
                return

    def _look(self) -> None:
        with open("/proc/self/status") as file:
            fields = dict(line.split(":", 1) for line in file if line.startswith("Rss"))
        self.anonymous = max(self.anonymous, int(fields["RssAnon"].split()[0]) << 10)
        self.mapped = max(self.mapped, int(fields["RssFile"].split()[0]) << 10)
