"""Processes that outlive the command that starts them: noted in a file, each with a log, ended as groups."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_POLL_SECONDS = 0.1
_SECONDS_TO_END = 20.0
# a process that dies is started again, as a host's own service manager would do
_KEPT = 'while :; do "$@"; sleep 1; done'


@dataclass(frozen=True)
class Started:
    """A process, told by its start from a later one with the same number. It leads a group of its own."""

    pid: int
    since: int

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return _start_of(self.pid) == self.since

    def members(self) -> list[int]:
        """The other processes of its group."""
        return [pid for pid in _processes() if pid != self.pid and _group_of(pid) == self.pid]

    def kill(self) -> None:
        """SIGKILL to the process and its group."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM to the process and its group."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        if self.lives or self.members():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class Processes:
    """The processes of a folder, by name; what is noted there is found again by later commands."""

    def __init__(self, folder: Path):
        self._file = folder / "processes.json"
        self.logs = folder / "logs"

    def started(self) -> dict[str, Started]:
        """All that were started and not stopped, dead ones too."""
        if not self._file.exists():
            return {}
        return {name: Started(**entry) for name, entry in json.loads(self._file.read_text()).items()}

    def living(self) -> dict[str, Started]:
        """Those that have not ended."""
        return {name: started for name, started in self.started().items() if started.lives}

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        keep: bool = False,
    ) -> None:
        """Starts a process, where it does not live.

        Args:
          keep: start it again whenever it ends.
        """
        if name in self.living():
            return
        self.logs.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                ["bash", "-c", _KEPT, "keep", *command] if keep else command,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        since = _start_of(process.pid)
        assert since is not None  # not waited for, so its number cannot be another's
        self._note({**self.started(), name: Started(process.pid, since)})

    def log(self, name: str) -> Path:
        """What the process prints."""
        return self.logs / f"{name}.log"

    def stop(self) -> None:
        """Ends all of them, the last one first, and waits for it."""
        started = list(self.started().values())[::-1]
        if not started:
            return
        for process in started:
            process.terminate()
        deadline = time.monotonic() + _SECONDS_TO_END
        while any(process.lives or process.members() for process in started):
            if time.monotonic() > deadline:
                for process in started:
                    process.kill()
            time.sleep(_POLL_SECONDS)
        self._note({})

    def _note(self, processes: Mapping[str, Started]) -> None:
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps({name: asdict(started) for name, started in processes.items()}))
        temporary.replace(self._file)


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _start_of(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None for one that has ended."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if after_name[0] == "Z" else int(after_name[19])
