"""Runs the sample on a cluster and on this machine, and compares: `python -m deploy.flink.sample`.

All files of all tables must be equal, byte for byte, also where a TaskManager, a worker pool or a worker
process is killed while questions are answered.
"""

import argparse
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.flink.cluster import Cluster
from deploy.flink.fetch import FOLDER
from deploy.flink.worker_logs import log_files, read_log, table_of_work
from pipelines.dataset.manifest import read_manifest
from pipelines.exit_status import exit_status
from pipelines.filesystems import STORAGE
from pipelines.options import CommandParser
from rag_core.errors import RagBeamError

RUN_FILE = Path("examples/run.yaml")
_STEP = re.compile(r"^\[\d+/\d+\] (\S+)$")
_SECONDS = re.compile(r"^ +([\d.]+) s$")
_POLL_SECONDS = 0.1
_RUNS = 3
KILLED_TABLE = "answers"  # made of several units, and by a model


@dataclass(frozen=True)
class Outcome:
    """What became of one or more runs of the same command.

    Attributes:
      statuses: of each run; the last one is 0.
      seconds: of each step, all runs together.
    """

    statuses: list[int]
    seconds: dict[str, float]


def run_to_the_end(output: Path, beam_args: Sequence[str], log: Path, run_file: Path = RUN_FILE) -> Outcome:
    """Runs all steps; a run that fails is given again, as a person would, and goes on.

    Raises:
      RagBeamError: it fails again and again.
    """
    command = [sys.executable, "-m", "pipelines.cli", "run", str(run_file), f"--output={output}", *beam_args]
    statuses: list[int] = []
    seconds: dict[str, float] = {}
    log.parent.mkdir(parents=True, exist_ok=True)
    while not statuses or statuses[-1]:
        if len(statuses) == _RUNS:
            raise RagBeamError(f"{' '.join(command)}: failed {_RUNS} times; read {log}")
        with log.open("a+") as file:
            begin = file.tell()
            statuses.append(subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode)
            file.seek(begin)
            step = ""
            for line in file:
                if match := _STEP.match(line):
                    step = match[1]
                elif match := _SECONDS.match(line):
                    seconds[step] = seconds.get(step, 0.0) + float(match[1])
    return Outcome(statuses, seconds)


def differences(made: Path, expected: Path) -> list[str]:
    """What differs between the outputs of two runs: their parts, byte for byte, and their counts.

    `rag-beam verify` proves that the files are those of the manifests.
    """
    found = []
    names = {path.name for folder in (made, expected) for path in folder.iterdir() if path.is_dir()}
    for name in sorted(names):
        mine, theirs = (read_manifest(STORAGE, str(folder / name)) for folder in (made, expected))
        if mine is None or theirs is None:
            found.append(f"{name}: is unfinished in {made if mine is None else expected}")
        elif mine.parts != theirs.parts or mine.counts != theirs.counts:
            found.append(f"{name}: the parts or counts in {made} are not those in {expected}")
    return found


def verified(folder: Path) -> bool:
    """Whether `rag-beam verify` proves all that it can of a run's output."""
    command = [sys.executable, "-m", "pipelines.cli", "verify", str(folder), "--progress=none"]
    return subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0


def strike(logs: Sequence[Path], blow: Callable[[Path], None], ended: threading.Event) -> None:
    """Waits until a worker has begun a second unit of `KILLED_TABLE`, and gives the blow.

    Args:
      logs: folders of the pools' worker logs.
      blow: takes the log of the worker that is at work.
      ended: set when there is nothing left to wait for.
    """
    before = set(log_files(logs))
    while not ended.wait(_POLL_SECONDS):
        for path in log_files(logs):
            if path not in before and read_log(path).units[KILLED_TABLE] > 1:
                blow(path)
                return


def kill(cluster: Cluster, what: str, log: Path) -> None:
    """SIGKILL to the TaskManager, the pool with its workers, or the workers only, of the host whose log it is."""
    host = log.parent.name.removeprefix("workers-")
    started = cluster.processes.started()
    if what == "taskmanager":
        victims = [started[f"taskmanager-{host}"].pid]
    else:
        pool, *workers = sorted(started[f"pool-{host}"].members())  # the pool started the workers
        victims = workers if what == "worker" else [pool, *workers]
    print(f"killed: {what} of host {host}, processes {victims}", flush=True)
    for pid in victims:
        subprocess.run(["kill", "-KILL", str(pid)], check=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs, compares and tells; returns the exit status."""
    parser = CommandParser(
        prog="python -m deploy.flink.sample",
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the cluster, which has to be started")
    parser.add_argument("--first_port", type=int, default=18_080, help="of the cluster")
    parser.add_argument("--parallelism", type=int, default=2, help="subtasks of each step")
    parser.add_argument(
        "--work", type=Path, default=Path("out/flink"), help="for the outputs; an earlier run's are kept"
    )
    parser.add_argument("--name", default="cluster", help="of the cluster's output below --work")
    parser.add_argument(
        "--kill", choices=["taskmanager", "pool", "worker"], help="what to kill while questions are answered"
    )
    with exit_status() as status:
        arguments = parser.parse_args(argv)
        if _prove(Cluster(arguments.folder, first_port=arguments.first_port), arguments):
            status.code = 1
    return status.code


def _prove(cluster: Cluster, arguments: argparse.Namespace) -> list[str]:
    work: Path = arguments.work
    local = run_to_the_end(work / "local", [], work / "local.log")
    logs = sorted(cluster.processes.logs.glob("workers-*"))
    before = set(log_files(logs))
    ended = threading.Event()
    striker = threading.Thread(
        target=strike, args=(logs, lambda log: kill(cluster, arguments.kill, log), ended), daemon=True
    )
    if arguments.kill:
        striker.start()
    begin = time.monotonic()
    made = work / arguments.name
    outcome = run_to_the_end(made, cluster.beam_args(arguments.parallelism), made.with_suffix(".log"))
    seconds = time.monotonic() - begin
    ended.set()
    print("step | here, s | cluster, s")
    for step, taken in outcome.seconds.items():
        print(f"{step} | {local.seconds.get(step, 0.0):.1f} | {taken:.1f}")
    print(f"all | {sum(local.seconds.values()):.1f} | {seconds:.1f}")
    print(f"statuses of the cluster's runs: {outcome.statuses}")
    for job in cluster.rest.jobs():
        subtasks = dict(cluster.rest.subtasks(job["jid"]))
        print(f"Flink: {job['name']} {job['state']} {job['duration'] / 1000:.1f} s, subtasks {subtasks}")
    print(table_of_work(read_log(path) for path in log_files(logs) if path not in before))
    problems = differences(made, work / "local")
    problems += [
        f"{folder}: rag-beam verify failed" for folder in (made, work / "local") if not verified(folder)
    ]
    print("\n".join(problems) or "equal: all files of all tables")
    return problems


if __name__ == "__main__":
    raise SystemExit(main())
