"""Fuzzes the readers for as long as one likes: `python -m tests.faults.fuzzing --seconds 600 --seed 1`.

Each format takes its turn in a process of its own, which is ended where one input takes too long, with the
place at which it stands, and in which memory is watched. What fails is kept, with the error beside it.
"""

import argparse
import faulthandler
import itertools
import json
import multiprocessing
import resource
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random

from tests.faults.damaged_bytes import damage, wrap
from tests.faults.examined_reading import examine
from tests.faults.seed_files import Seed, seeds

HANG_SECONDS = 60
_MEMORY_BYTES = 512 << 20  # by which an input of some kilobytes may enlarge the process
_TURN_SECONDS = 20.0


def damaged_seed(seed: Seed, random: Random) -> Seed:
    """A copy of which one file is damaged, perhaps compressed, perhaps damaged again."""
    others = [content for other in seeds().values() for content in other.files.values()]
    name = random.choice(list(seed.files))
    content = damage(seed.files[name], random, others)
    if not seed.is_folder:
        content = wrap(content, random, name)
    return type(seed)(seed.reads, seed.format, seed.files | {name: content}, seed.is_folder)


def try_one(seed: Seed, folder: Path, wanted_format: str) -> str:
    """Reads an input; returns `read` or `refused`. Raises whatever breaks the rules."""
    path = seed.write(folder)
    return "refused" if examine(path, seed.reads, wanted_format).refused else "read"


def main() -> int:
    """Fuzzes every format in turn until the time is over; the status is 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--formats", nargs="*", default=list(seeds()), help=f"of {', '.join(seeds())}")
    parser.add_argument("--keep", type=Path, default=None, help="folder for inputs that fail")
    arguments = parser.parse_args()
    keep = arguments.keep or Path(tempfile.mkdtemp(prefix="fuzzing-"))
    tried: dict[str, Counter[str]] = {name: Counter() for name in arguments.formats}
    end = time.monotonic() + arguments.seconds
    for turn in itertools.count():
        left = end - time.monotonic()
        if left <= 0:
            break
        name = arguments.formats[turn % len(tried)]
        seconds = max(1.0, min(_TURN_SECONDS, left, arguments.seconds / len(tried)))
        tried[name].update(_take_turn(name, seconds, arguments.seed + turn, keep / name.replace("/", "-")))
    for name, counts in tried.items():
        told = ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))
        print(f"{name:<34}{counts.total():>10,} inputs: {told}")
    failures = sum(counts["failed"] for counts in tried.values())
    print(f"{sum(c.total() for c in tried.values()):,} inputs, {failures:,} failures, kept in {keep}")
    return 1 if failures else 0


def _take_turn(name: str, seconds: float, number: int, keep: Path) -> Counter[str]:
    """Fuzzes one format in a process of its own; returns how many inputs were read, refused, failed."""
    (keep / "now").mkdir(parents=True, exist_ok=True)
    process = multiprocessing.get_context("fork").Process(target=_work, args=(name, seconds, number, keep))
    process.start()
    process.join()
    report = keep / "report.json"
    tried: Counter[str] = Counter(json.loads(report.read_text()) if report.exists() else {})
    report.unlink(missing_ok=True)
    if process.exitcode:
        tried["failed"] += 1
        (keep / "now").rename(keep / f"ended-{number}")
        print(f"{name}: the process ended with {process.exitcode}; see {keep}/ended-{number}", flush=True)
    return tried


def _work(name: str, seconds: float, number: int, keep: Path) -> None:
    """One process's turn: inputs until the time is over, each written down before it is read."""
    seed, random = seeds()[name], Random(f"{name} {number}")
    now = keep / "now"
    tried: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for path in now.iterdir():
            path.unlink()
        damaged = damaged_seed(seed, random)
        wanted_format = seed.format if random.random() < 0.8 else "auto"
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        try:
            tried[try_one(damaged, now, wanted_format)] += 1
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
            assert grown < _MEMORY_BYTES, f"the process grew by {grown:,} bytes"
        except Exception:
            tried["failed"] += 1
            kept = keep / f"failed-{number}-{tried.total()}"
            kept.mkdir(exist_ok=True)
            damaged.write(kept)
            (kept / "error.txt").write_text(f"--format {wanted_format}\n{traceback.format_exc()}")
        faulthandler.cancel_dump_traceback_later()
        if tried.total() % 100 == 1:
            (keep / "report.json").write_text(json.dumps(tried))
    (keep / "report.json").write_text(json.dumps(tried))


if __name__ == "__main__":
    raise SystemExit(main())
