"""What the worker processes of the pools did, by the logs that they left."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_BUNDLE = re.compile(r" rag_beam: (\S+): a bundle begins$")
_UNIT = re.compile(r" rag_beam: (\S+): (unit \S+) .*(begins|is there)$")
_LOADED = re.compile(r" rag_beam: (\w+): loaded$")


@dataclass
class WorkerLog:
    """One process of a pool.

    Attributes:
      bundles: begun, by table.
      units: begun, by table.
      found: units that were there already, by table.
      loads: models and indexes loaded, by the work that loaded them.
    """

    path: Path
    bundles: Counter[str] = field(default_factory=Counter)
    units: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    loads: Counter[str] = field(default_factory=Counter)


def log_files(folders: Iterable[Path]) -> list[Path]:
    """The logs of all worker processes of some pools."""
    return sorted(path for folder in folders for path in folder.glob("worker-*.log"))


def read_log(path: Path) -> WorkerLog:
    """What a process did until now."""
    log = WorkerLog(path)
    for line in path.read_text(errors="replace").splitlines():
        if match := _BUNDLE.search(line):
            log.bundles[match[1]] += 1
        elif match := _UNIT.search(line):
            (log.units if match[3] == "begins" else log.found)[match[1]] += 1
        elif match := _LOADED.search(line):
            log.loads[match[1]] += 1
    return log


def table_of_work(logs: Iterable[WorkerLog]) -> str:
    """By table: in how many processes of which pools it was made, in how many bundles, of which units."""
    logs = list(logs)
    tables = list(dict.fromkeys(table for log in logs for table in log.bundles))
    lines = ["table | processes | pools | bundles | units begun | units found"]
    for table in tables:
        own = [log for log in logs if log.bundles[table]]
        pools = {log.path.parent.name for log in own}
        cells = (len(own), len(pools), *(sum(getattr(log, kind)[table] for log in own) for kind in _KINDS))
        lines.append(" | ".join([table, *map(str, cells)]))
    loads = [count for log in logs for count in log.loads.values()]
    lines.append(
        f"{len(logs)} worker processes loaded {len(loads)} models and indexes, each at most {max(loads, default=0)} "
        "times in a process"
    )
    return "\n".join(lines)


_KINDS = ("bundles", "units", "found")
