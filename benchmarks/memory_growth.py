"""Peak memory of the stages on a corpus and on copies of it: it should not grow.

    python -m benchmarks.memory_growth --input 'wiki_*.gz' --encoder examples/models --work work

The copies are WikiExtractor files with other document ids. Each stage runs in a process of its own,
whose anonymous memory (which cannot be given back) and mapped memory (the index's pages, which the
kernel takes back when it needs them) are read from /proc while it runs. The peer is the same stage
on the corpus once; a ratio of 1 means no growth.
"""

import glob
import gzip
import re
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.report import Comparison, argument_parser, write_report

POLL_SECONDS = 0.05
QUESTIONS = 500
GROWTH_ACCEPTED = 1.25  # allocators keep what they were once given; eight times the corpus must not show


def main() -> None:
    """Runs the stages on one copy and on several, and compares their peaks."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--input", required=True, help="a glob of WikiExtractor files")
    parser.add_argument(
        "--encoder",
        required=True,
        help="folder of question_encoder and passage_encoder, such as examples/models",
    )
    parser.add_argument("--work", required=True, help="folder for copies and outputs")
    parser.add_argument("--copies", type=int, default=8)
    arguments = parser.parse_args()

    peaks = {}
    for copies in (1, arguments.copies):
        work = Path(arguments.work) / f"x{copies}"
        copy_corpus(sorted(glob.glob(arguments.input)), work / "corpus", copies)
        peaks[copies] = run_stages(work, Path(arguments.encoder))
    comparisons = []
    for stage, (anonymous, mapped, seconds) in peaks[arguments.copies].items():
        once = peaks[1][stage]
        print(
            f"{stage}: anonymous {once[0]:.0f} MB at 1×, {anonymous:.0f} MB at {arguments.copies}×; mapped "
            f"{once[1]:.0f} MB and {mapped:.0f} MB; {once[2]:.0f} s and {seconds:.0f} s"
        )
        comparisons.append(
            Comparison(
                f"peak anonymous memory of {stage}, {arguments.copies}× the corpus against 1×",
                "MB",
                anonymous,
                once[0],
                once[0] / anonymous,
                1,
                {"copies": arguments.copies},
                anonymous <= GROWTH_ACCEPTED * once[0],
            )
        )
    write_report(comparisons, arguments.json)


def copy_corpus(files: list[str], folder: Path, copies: int) -> None:
    """Writes each file `copies` times, with document ids of each copy's own."""
    folder.mkdir(parents=True, exist_ok=True)
    for copy in range(copies):
        for file in files:
            with gzip.open(file, "rt", encoding="utf-8") as source:
                text = re.sub(r'(<doc id=")', rf"\g<1>{copy}-", source.read())
            target = folder / f"{copy}-{Path(file).stem}.gz"
            if not target.exists():
                target.write_bytes(gzip.compress(text.encode(), 1))


def run_stages(work: Path, encoders: Path) -> dict[str, tuple[float, float, float]]:
    """(peak anonymous MB, peak mapped MB, seconds) of each stage."""
    questions = work / "questions.jsonl"
    questions.write_text("".join(f'{{"question": "What is {number}?"}}\n' for number in range(QUESTIONS)))
    made = {name: str(work / name) for name in ("passages", "embeddings", "index", "retrievals")}
    passage_encoder, question_encoder = encoders / "passage_encoder", encoders / "question_encoder"
    stages = {
        "chunk": f"--input {work}/corpus/*.gz --output {made['passages']}",
        # short texts keep the run short: memory is what is looked at
        "encode": f"--passages {made['passages']} --encoder {passage_encoder} --max_tokens 32 "
        f"--output {made['embeddings']}",
        "index": f"--embeddings {made['embeddings']} --passages {made['passages']} --output {made['index']} "
        "--shard_rows 20000",
        "retrieve": f"--index {made['index']} --questions {questions} --encoder {question_encoder} --n_docs 20 "
        f"--memory_bytes {256 << 20} --output {made['retrievals']}",
    }
    return {stage: measure([stage, *options.split()]) for stage, options in stages.items()}


def measure(arguments: list[str]) -> tuple[float, float, float]:
    """Runs a command from the start and reads its memory until it ends."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "pipelines.cli", *arguments, "--overwrite"])
    anonymous = mapped = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except FileNotFoundError:
            break
        anonymous = max(anonymous, _kilobytes(status, "RssAnon"))
        mapped = max(mapped, _kilobytes(status, "RssFile"))
        time.sleep(POLL_SECONDS)
    if process.wait():
        raise SystemExit(f"{arguments[0]} ended with status {process.returncode}")
    return anonymous / 1e3, mapped / 1e3, time.perf_counter() - began


def _kilobytes(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) if found else 0


if __name__ == "__main__":
    main()
