"""How fast `rag-beam chunk` reads a corpus, and what a second worker brings.

    python -m benchmarks.chunking --input 'wikiextractor/wiki_*.gz' --input 'dumps/*.xml.*' --work work

Each --input is a group of WikiExtractor files or MediaWiki XML exports, measured on its own. Every
file is copied --repeat times, with document ids of each copy's own, so that a corpus is large enough
for work to outweigh start-up. The command runs on one copy and on all, with one worker and with
several, in turns, each time in processes of its own. The whole command's rate is what a user waits
for; the steady rate leaves start and end out: it is what the further copies add in text and in
seconds. Megabytes are those of the decompressed files. The peer is the same command with one worker;
both agree where every part of the passages has the same SHA-256.
"""

import bz2
import glob
import gzip
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Comparison, argument_parser, write_report
from pipelines.dataset.manifest import Manifest, read_manifest
from pipelines.filesystems import STORAGE

_COMPRESSION: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    ".gz": (gzip.decompress, gzip.compress),
    ".bz2": (bz2.decompress, bz2.compress),
}
_BEFORE_ID = re.compile(rb'<doc id="|<page\b.*?<id>', re.DOTALL)


@dataclass(frozen=True)
class Corpus:
    """Files to chunk: `glob` matches them, and together they hold `megabytes` of text."""

    glob: str
    megabytes: float


@dataclass(frozen=True)
class Run:
    """What one command took, and what it made."""

    seconds: float
    cpu_seconds: float
    manifest: Manifest


def main() -> None:
    """Measures every group, prints its rates, writes the report."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--input", required=True, nargs="+", action="append", help="globs of one group")
    parser.add_argument("--work", required=True, help="folder for copies and outputs")
    parser.add_argument("--repeat", type=int, default=8, help="copies of each file, at least 2")
    parser.add_argument("--workers", type=int, default=2, help="worker processes to compare with one")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.repeat < 2:
        parser.error("--repeat: one copy and more are compared; give at least 2")

    comparisons = []
    for number, patterns in enumerate(arguments.input):
        files = sorted({file for pattern in patterns for file in glob.glob(pattern)})
        if not files:
            parser.error(f"--input {' '.join(patterns)}: no file matches")
        work = Path(arguments.work) / f"group-{number}"
        corpora = copy_corpus(files, work / "corpus", arguments.repeat)
        runs = measure(corpora, work / "passages", (1, arguments.workers), arguments.runs)
        comparisons += compare(" ".join(patterns), corpora, runs)
    write_report(comparisons, arguments.json)


def copy_corpus(files: list[str], folder: Path, copies: int) -> tuple[Corpus, Corpus]:
    """Writes each file `copies` times; returns the first copy and all of them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    megabytes = []
    for copy in range(copies):
        megabytes.append(0.0)
        for file in map(Path, files):
            decompress, compress = _COMPRESSION.get(file.suffix, (bytes, bytes))
            content = _BEFORE_ID.sub(rb"\g<0>%d-" % copy, decompress(file.read_bytes()))
            (folder / f"{copy}-{file.name}").write_bytes(compress(content))
            megabytes[-1] += len(content) / 1e6
    return Corpus(f"{folder}/0-*", megabytes[0]), Corpus(f"{folder}/*", sum(megabytes))


def measure(
    corpora: tuple[Corpus, Corpus], output: Path, workers: tuple[int, int], runs: int
) -> dict[tuple[int, Corpus], list[Run]]:
    """The runs by number of workers and corpus, taken in turns."""
    done: dict[tuple[int, Corpus], list[Run]] = {
        (count, corpus): [] for corpus in corpora for count in workers
    }
    for _ in range(runs):
        for (count, corpus), measured in done.items():
            measured.append(chunk(corpus, output, count))
    return done


def chunk(corpus: Corpus, output: Path, workers: int) -> Run:
    """Runs the command from the start; every record is taken, or rejected without ending the run."""
    options = f"--direct_num_workers {workers} --max_rejects 1 --progress none --overwrite"
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "chunk",
        "--input",
        corpus.glob,
        "--output",
        str(output),
    ]
    began, cpu_began = time.perf_counter(), _cpu_seconds()
    subprocess.run([*command, *options.split()], check=True, stdout=subprocess.DEVNULL)
    seconds, cpu_seconds = time.perf_counter() - began, _cpu_seconds() - cpu_began
    manifest = read_manifest(STORAGE, str(output))
    assert manifest is not None  # the command ended with status 0
    return Run(seconds, cpu_seconds, manifest)


def compare(
    group: str, corpora: tuple[Corpus, Corpus], runs: dict[tuple[int, Corpus], list[Run]]
) -> list[Comparison]:
    """Prints the group's rates by number of workers; the whole command and the steady rate, compared."""
    once, all_copies = corpora
    rates: dict[int, tuple[float, float]] = {}  # by workers: MB/s of the whole command, and steady
    for workers in sorted({workers for workers, _ in runs}):
        few, many = runs[workers, once], runs[workers, all_copies]
        seconds = statistics.median(run.seconds for run in many)
        more_seconds = seconds - statistics.median(run.seconds for run in few)
        more_megabytes = all_copies.megabytes - once.megabytes
        more_passages = many[0].manifest.rows - few[0].manifest.rows
        rates[workers] = all_copies.megabytes / seconds, more_megabytes / more_seconds
        print(
            f"{group}, {workers} worker{'s' if workers > 1 else ''}: whole command {seconds:.1f} s for "
            f"{all_copies.megabytes:.0f} MB ({statistics.median(run.cpu_seconds for run in many):.1f} s of "
            f"processor time), {rates[workers][0]:.1f} MB/s, {many[0].manifest.rows / seconds:,.0f} passages/s; "
            f"steady {rates[workers][1]:.1f} MB/s, {more_passages / more_seconds:,.0f} passages/s",
            flush=True,
        )
    one, several = min(rates), max(rates)
    agrees = all(
        len({tuple(run.manifest.parts) for run in runs[one, corpus] + runs[several, corpus]}) == 1
        for corpus in corpora
    )
    settings = {
        "workers": several,
        "megabytes": round(all_copies.megabytes, 1),
        "megabytes_once": round(once.megabytes, 1),
        "passages": runs[one, all_copies][0].manifest.rows,
    }
    return [
        Comparison(
            f"chunk {group}, {what}, {several} workers against one",
            "MB/s",
            ours,
            peer,
            ours / peer,
            len(runs[one, once]),
            settings,
            agrees,
        )
        for what, ours, peer in zip(("whole command", "steady"), rates[several], rates[one], strict=True)
    ]


def _cpu_seconds() -> float:
    """Processor time of the commands that have ended, and of their workers."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
