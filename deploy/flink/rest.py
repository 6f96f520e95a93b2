"""What Flink's JobManager tells of its cluster and jobs."""

import json
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass
from typing import Any

_SECONDS = 10


@dataclass(frozen=True)
class Rest:
    """The REST interface at `url`."""

    url: str

    def task_managers(self) -> int:
        """How many have registered; 0 where nobody answers."""
        try:
            return self._get("overview")["taskmanagers"]
        except (urllib.error.URLError, OSError):
            return 0

    def jobs(self) -> list[dict[str, Any]]:
        """All that it remembers, the oldest first: `jid`, `name`, `state`, `duration` in milliseconds."""
        return sorted(self._get("jobs/overview")["jobs"], key=lambda job: job["start-time"])

    def subtasks(self, job_id: str) -> Counter[str]:
        """How many subtasks of a job's steps ended on each TaskManager."""
        vertices = self._get(f"jobs/{job_id}")["vertices"]
        found: Counter[str] = Counter()
        for vertex in vertices:
            for subtask in self._get(f"jobs/{job_id}/vertices/{vertex['id']}")["subtasks"]:
                found[subtask["endpoint"]] += 1
        return found

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/{path}", timeout=_SECONDS) as reply:
            return json.load(reply)
