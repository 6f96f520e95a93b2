"""What a second worker process on this machine is worth: the same commands with one and with two of them.

    python -m benchmarks.local_workers --work work

The sample world is chunked, encoded by an encoder of MiniLM's size with drawn weights, indexed, searched and
answered. Each stage is a command of its own, with its start; by turns it runs with one process and with two
(`--direct_num_workers`), of one thread each. Their files are compared byte by byte.
"""

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import AutoTokenizer, DPRConfig, DPRContextEncoder, DPRQuestionEncoder

import examples
from benchmarks.report import Comparison, argument_parser, write_report

_EXAMPLES = Path(examples.__file__).parent
_WORKERS = (1, 2)


def main() -> None:
    """Prepares the encoders, then measures stage after stage."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument(
        "--work", required=True, help="folder for models and outputs; what is there is replaced"
    )
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()

    work = Path(arguments.work)
    shutil.rmtree(work, ignore_errors=True)
    _write_encoders(work)
    comparisons = []
    for stage, options in _stages(work).items():
        seconds: dict[int, list[float]] = {workers: [] for workers in _WORKERS}
        for _ in range(arguments.runs):
            for workers in _WORKERS:
                seconds[workers].append(_run(stage, options, work / stage / str(workers), workers))
        one, two = (statistics.median(seconds[workers]) for workers in _WORKERS)
        made = [_files(work / stage / str(workers)) for workers in _WORKERS]
        comparisons.append(
            Comparison(
                f"{stage}, two workers against one",
                "s",
                ours=two,
                peer=one,
                ratio=one / two,
                runs=arguments.runs,
                settings={"threads": 1},
                agrees=made[0] == made[1] and bool(made[0]),
            )
        )
    write_report(comparisons, arguments.json)


def _write_encoders(work: Path) -> None:
    """DPR's two encoders in the size of all-MiniLM-L6-v2, of drawn weights, with the sample's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(_EXAMPLES / "models" / "passage_encoder")
    config = DPRConfig(
        vocab_size=len(tokenizer),
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    for model_class, name in (
        (DPRContextEncoder, "passage_encoder"),
        (DPRQuestionEncoder, "question_encoder"),
    ):
        model_class(config).save_pretrained(work / name)
        tokenizer.save_pretrained(work / name)


def _stages(work: Path) -> dict[str, list[str]]:
    """Each stage's options; it reads what the one before it made with a single worker."""
    made = {stage: str(work / stage / "1") for stage in ("chunk", "encode", "index", "retrieve")}
    passages = ["--passages", made["chunk"]]
    return {
        "chunk": ["--input", str(_EXAMPLES / "world" / "corpus" / "*.jsonl")],
        "encode": [*passages, "--encoder", str(work / "passage_encoder"), "--unit_rows", "100"],
        "index": ["--embeddings", made["encode"], *passages, "--shard_rows", "200"],
        "retrieve": [
            *["--index", made["index"], "--encoder", str(work / "question_encoder")],
            *[
                "--questions",
                str(_EXAMPLES / "world" / "questions.jsonl"),
                "--n_docs",
                "20",
                "--unit_rows",
                "40",
            ],
        ],
        "generate": [
            *["--retrievals", made["retrieve"], "--model", str(_EXAMPLES / "models" / "rag_token")],
            *["--model_type", "rag_token", "--unit_rows", "40"],
        ],
    }


def _run(stage: str, options: list[str], output: Path, workers: int) -> float:
    """Seconds of the command, from its start to its end."""
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "pipelines.cli", stage, *options, "--output", str(output)]
    command += ["--direct_num_workers", str(workers), "--num_threads", "1", "--progress", "none"]
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def _files(folder: Path) -> dict[str, bytes]:
    """All that holds rows or vectors, by name."""
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.suffix != ".json"
    }


if __name__ == "__main__":
    main()
