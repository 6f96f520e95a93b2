"""The same work with one worker process and with two, stage by stage, on Beam's local runner.

    python -m benchmarks.local_scaling --work work --copies 8 --unit_rows generate=64

runs chunk, encode, index, retrieve and generate as the commands that a user gives, with `--num_threads 1` and
each of `--workers` as `--direct_num_workers`, in turns (1, 2, 1, 2, …), so that a busy machine slows all of
them. The corpus is the sample world or `--corpus`, `--copies` times, each copy in files and with ids of its own.
Copies have equal texts, so of the passages that a question gets, several may be the same. Workers share a
stage's units: where it has one unit, the second worker has nothing to do, and three keep two busy for the time
of two. Sizes of units are the stages' own, or those of `--unit_rows`.

Start-up is told apart. An empty command is `rag-beam --help`, which is Python's start. The columns of start are
the same commands on one document and one question: imports, Beam, the workers, the models. "beyond start" is
the speed-up of the seconds that exceed those, told where every run took longer than every start; of a single
run that may be chance.

Every run of a command must leave the same files with the same bytes as the first, manifests included;
otherwise the table says so and the status is 1. `--output` keeps the seconds of all runs; with `--json`, one
worker is the peer of several.
"""

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import examples
from benchmarks.local_scaling_times import Measured, compare, table
from benchmarks.report import argument_parser, machine, write_report
from examples.compose import MAIN_DATE, compose_world, write_world
from pipelines.dataset.manifest import read_manifest
from pipelines.filesystems import STORAGE
from pipelines.options import lies_within
from rag_core.storage import file_sha256

STAGES = ("chunk", "encode", "index", "retrieve", "generate")
UNIT_OPTIONS = {
    "encode": "unit_rows",
    "index": "shard_rows",
    "retrieve": "unit_rows",
    "generate": "unit_rows",
}
_COMMAND = [sys.executable, "-m", "pipelines.cli"]
_PACKAGES = ("rag-beam", "apache-beam", "pyarrow", "torch", "transformers", "faiss-cpu")


@dataclass(frozen=True)
class Inputs:
    """What the stages begin with."""

    corpus: str  # a glob
    questions: Path


def main() -> None:
    """Makes the inputs, measures stage by stage, prints the table, writes the reports."""
    arguments = parse_arguments()
    work: Path = arguments.work
    shutil.rmtree(work, ignore_errors=True)
    corpus, questions = arguments.corpus, arguments.questions
    if not corpus:
        write_world(compose_world(), work / "world")
        corpus = [
            *sorted((work / "world" / "corpus").iterdir()),
            work / "world" / f"leaders_{MAIN_DATE}.jsonl",
        ]
        questions = questions or work / "world" / "questions.jsonl"
    least = write_inputs(work / "least", corpus[:1], questions, rows=1)
    whole = write_inputs(work / "whole", corpus, questions, arguments.copies, arguments.question_copies)

    load_before = os.getloadavg()
    empty = [seconds_of([*_COMMAND, "--help"]) for _ in range(arguments.runs)]
    measured: list[Measured] = []
    for stage in STAGES:
        measured.append(measure(stage, least, whole, arguments))
        if arguments.output:  # a stage that fails does not lose the ones before it
            content = {
                "machine": machine() | {"versions": _versions(), "load": [load_before, os.getloadavg()]},
                "settings": _settings(arguments),
                "empty_seconds": empty,
                "stages": [asdict(item) for item in measured],
            }
            arguments.output.write_text(json.dumps(content, indent=1))
    print(table(measured, empty))
    write_report(compare(measured, empty, _settings(arguments)), arguments.json)
    if any(item.differing for item in measured):
        raise SystemExit(1)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ends the program where they do not fit together."""
    parser = argument_parser(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for inputs and outputs; what is there is replaced"
    )
    parser.add_argument("--output", type=Path, help="write the seconds of all runs to this JSON file")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="the first is compared with")
    parser.add_argument("--runs", type=int, default=3, help="of each command, in turns; the median counts")
    parser.add_argument(
        "--corpus",
        type=Path,
        nargs="+",
        help="JSON lines with document_id, title, text; default: the sample's",
    )
    parser.add_argument(
        "--questions", type=Path, help="JSON lines with question_id, question; default: the sample's"
    )
    parser.add_argument("--copies", type=int, default=1, help="how many times the documents are taken")
    parser.add_argument("--question_copies", type=int, default=1, help="how many times the questions are")
    parser.add_argument(
        "--unit_rows",
        type=_unit_rows,
        nargs="+",
        default=[],
        metavar="STAGE=ROWS",
        help="rows of a unit of encode, retrieve or generate, or of a shard of index; default: the stages' own",
    )
    parser.add_argument("--models", type=Path, default=Path(examples.__file__).parent / "models")
    parser.add_argument("--model_type", default="rag_token", choices=["rag_token", "rag_sequence"])
    parser.add_argument("--n_docs", type=int, default=5)
    arguments = parser.parse_args(argv)
    if arguments.corpus and not arguments.questions:
        parser.error("--corpus: the sample's questions are not about it; give --questions too")
    for path in [*(arguments.corpus or []), *filter(None, [arguments.questions])]:
        if lies_within(str(path), str(arguments.work)):
            parser.error(f"--work {arguments.work}: holds {path}, and is emptied first; give another folder")
    for name in ("runs", "copies", "question_copies"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} {getattr(arguments, name)}: expected 1 or more")
    if len(set(arguments.workers)) != len(arguments.workers) or min(arguments.workers) < 1:
        parser.error("--workers: expected different numbers of processes, each 1 or more")
    return arguments


def _unit_rows(text: str) -> tuple[str, int]:
    stage, _, rows = text.partition("=")
    if stage not in UNIT_OPTIONS or not rows.isdecimal():
        raise argparse.ArgumentTypeError(
            f"{text}: expected STAGE=ROWS, STAGE one of {', '.join(UNIT_OPTIONS)}"
        )
    return stage, int(rows)


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options as JSON values; where things lie does not count."""
    values: dict[str, Any] = json.loads(json.dumps(vars(arguments), default=lambda path: path.name))
    return {name: value for name, value in values.items() if name not in ("json", "output", "work")}


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def write_inputs(
    folder: Path,
    corpus: Sequence[Path],
    questions: Path,
    copies: int = 1,
    question_copies: int = 1,
    rows: int | None = None,
) -> Inputs:
    """Writes the first `rows` documents of each file and questions (None: all), each copy with ids of its own."""
    (folder / "corpus").mkdir(parents=True)
    for copy in range(copies):
        for number, file in enumerate(corpus):
            target = folder / "corpus" / f"{copy:04}-{number:04}-{file.stem}.jsonl"
            target.write_text("".join(_copied(file, "document_id", copy, rows)))
    (folder / "questions.jsonl").write_text(
        "".join(
            line for copy in range(question_copies) for line in _copied(questions, "question_id", copy, rows)
        )
    )
    return Inputs(f"{folder}/corpus/*.jsonl", folder / "questions.jsonl")


def _copied(file: Path, id_name: str, copy: int, rows: int | None) -> Iterable[str]:
    with file.open() as lines:
        for number, line in enumerate(islice(lines, rows), start=1):
            row = json.loads(line)
            if id_name not in row:
                raise SystemExit(
                    f"{file}, line {number}: has no {id_name}, by which copies are told apart; give each row one"
                )
            yield json.dumps(row | {id_name: f"{copy}-{row[id_name]}"}) + "\n"


def measure(stage: str, least: Inputs, whole: Inputs, arguments: argparse.Namespace) -> Measured:
    """Runs a stage's command on either input with each number of workers, in turns.

    The first output of either is kept for the stages that follow; each further one is compared with it and removed.
    """
    measured = Measured(stage)
    first: dict[Path, dict[str, str]] = {}  # the files of the first run, by folder of the input
    for run in range(1, arguments.runs + 1):
        for inputs, seconds in ((least, measured.start_seconds), (whole, measured.seconds)):
            folder = inputs.questions.parent
            for workers in arguments.workers:
                output = folder / ("again" if folder in first else stage)
                command = [*_COMMAND, *stage_arguments(stage, inputs, arguments), "--output", str(output)]
                command += ["--direct_num_workers", str(workers), "--num_threads", "1", "--progress", "none"]
                seconds.setdefault(workers, []).append(seconds_of(command))
                print(
                    f"{stage}, {folder.name}, --direct_num_workers {workers}: {seconds[workers][-1]:.1f} s",
                    flush=True,
                )
                made = digests(output)
                names = differing_files(made, first.setdefault(folder, made))
                if names:
                    measured.differing.append(
                        f"{folder.name}, {workers} workers, run {run}: {', '.join(names)}"
                    )
                if output.name == "again":
                    shutil.rmtree(output)
    manifest = read_manifest(STORAGE, str(whole.questions.parent / stage))
    assert manifest is not None  # the command ended with status 0
    measured.rows = manifest.counts.rows_written
    return measured


def stage_arguments(stage: str, inputs: Inputs, arguments: argparse.Namespace) -> list[str]:
    """The command line of a stage whose inputs are the first outputs of the stages before it."""
    folder = inputs.questions.parent
    model = arguments.models / arguments.model_type
    options: dict[str, Any] = {
        "chunk": {"input": inputs.corpus},
        "encode": {"passages": folder / "chunk", "encoder": arguments.models / "passage_encoder"},
        "index": {"embeddings": folder / "encode", "passages": folder / "chunk"},
        "retrieve": {
            "index": folder / "index",
            "questions": inputs.questions,
            "encoder": model,
            "n_docs": arguments.n_docs,
        },
        "generate": {
            "retrievals": folder / "retrieve",
            "model": model,
            "model_type": arguments.model_type,
            "max_new_tokens": 24,
            "min_new_tokens": 1,
        },
    }[stage]
    options |= {UNIT_OPTIONS[name]: rows for name, rows in arguments.unit_rows if name == stage}
    return [stage, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]


def seconds_of(command: Sequence[str]) -> float:
    """Wall-clock seconds of a command, which has to succeed."""
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{done.stderr}{' '.join(command)}: ended with status {done.returncode}")
    return seconds


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its name there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(STORAGE, str(path)) for path in files}


def differing_files(made: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Files that are in one of two folders only, or not equal."""
    return [name for name in sorted(made.keys() | expected.keys()) if made.get(name) != expected.get(name)]


if __name__ == "__main__":
    main()
