"""What a night saves: the sample world's questions after some of its articles changed, refreshed and from nothing.

    python -m benchmarks.refresh --work work --shares 0.01 0.05 0.2

The articles about leaders are those of 2018; of each share of the corpus, drawn with a fixed seed, they
become those of 2024. `rag-beam run --refresh` goes on from the night before, the peer is the same run in an
empty folder. Both are commands of their own, with their start. Their answers are compared byte by byte.
"""

import json
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

import examples
from benchmarks.report import Comparison, argument_parser, write_report
from pipelines.dataset.manifest import Manifest, read_manifest
from pipelines.filesystems import STORAGE

_EXAMPLES = Path(examples.__file__).parent
_WORLD = _EXAMPLES / "world"
_SEED = 1


@dataclass(frozen=True)
class Night:
    """What a refresh of some share of the corpus found and took."""

    documents: int
    retrievals: int
    recomputed: int
    changed: int
    refresh_seconds: float
    full_seconds: float
    agrees: bool


def main() -> None:
    """Makes a first night, then for each share a refresh of a copy of it and a full run."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument(
        "--work", required=True, help="folder for corpora and outputs; what is there is replaced"
    )
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[0.01], help="of the documents, that change"
    )
    parser.add_argument("--model_type", default="rag_token", choices=["rag_token", "rag_sequence"])
    parser.add_argument("--n_docs", type=int, default=5)
    arguments = parser.parse_args()

    work = Path(arguments.work)
    shutil.rmtree(work, ignore_errors=True)
    options = {"model_type": arguments.model_type, "n_docs": arguments.n_docs}
    _write_corpus(work, 0.0)
    _run(work, "base", options)
    nights: dict[float, Night] = {}
    for share in arguments.shares:
        nights[share] = _measured(work, share, options)
        _print_table(nights)
    comparisons = [
        Comparison(
            name=f"refresh after {share:.1%} of the documents changed",
            unit="s",
            ours=night.refresh_seconds,
            peer=night.full_seconds,
            ratio=night.full_seconds / night.refresh_seconds,
            runs=1,
            settings=options | {"share": share},
            agrees=night.agrees,
        )
        for share, night in nights.items()
    ]
    write_report(comparisons, arguments.json)


def _measured(work: Path, share: float, options: dict[str, Any]) -> Night:
    documents = _write_corpus(work, share)
    name = f"share_{share}"
    shutil.copytree(work / "base", work / name)
    refresh_seconds = _run(work, name, options, "--refresh")
    full_seconds = _run(work, f"{name}_full", options)
    before, after, full = (work / "base", work / name, work / f"{name}_full")
    earlier = {row["question_id"]: row for row in _rows(before, "retrievals").to_pylist()}
    counts = _manifest(after, "answers").counts
    changes = _manifest(after, "answers", "changes").counts.extra
    return Night(
        documents=documents,
        retrievals=sum(row != earlier[row["question_id"]] for row in _rows(after, "retrievals").to_pylist()),
        recomputed=counts.accepted - counts.extra["reused"],
        changed=changes["new_answer"],
        refresh_seconds=refresh_seconds,
        full_seconds=full_seconds,
        agrees=all(
            _rows(after, step).sort_by("question_id").equals(_rows(full, step).sort_by("question_id"))
            for step in ("retrievals", "answers")
        ),
    )


def _write_corpus(work: Path, share: float) -> int:
    """Writes the corpus with a share of it changed; returns how many documents are."""
    work.mkdir(parents=True, exist_ok=True)
    fixed = [path.read_text().splitlines() for path in sorted((_WORLD / "corpus").glob("*.jsonl"))]
    before, after = (
        {json.loads(line)["document_id"]: line for line in (_WORLD / name).read_text().splitlines()}
        for name in ("leaders_2018.jsonl", "leaders_2024.jsonl")
    )
    differing = sorted(name for name in before if after.get(name, before[name]) != before[name])
    wanted = round(share * (sum(map(len, fixed)) + len(before)))
    if wanted > len(differing):
        raise SystemExit(f"--shares {share}: {wanted} documents, the world has {len(differing)} that change")
    changed = random.Random(_SEED).sample(differing, wanted)
    lines = [line for file in fixed for line in file]
    lines += [after[name] if name in changed else line for name, line in before.items()]
    (work / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    return len(changed)


def _run(work: Path, output: str, options: dict[str, Any], *flags: str) -> float:
    """Runs a night as a command; returns its seconds."""
    model = str(_EXAMPLES / "models" / options["model_type"])
    steps = {
        "passages": {"stage": "chunk", "input": ["corpus.jsonl"]},
        "embeddings": {
            "stage": "encode",
            "passages": "passages",
            "encoder": str(_EXAMPLES / "models" / "passage_encoder"),
        },
        "index": {"stage": "index", "embeddings": "embeddings", "passages": "passages"},
        "retrievals": {
            "stage": "retrieve",
            "index": "index",
            "questions": str(_WORLD / "questions.jsonl"),
            "encoder": model,
            "n_docs": options["n_docs"],
        },
        "answers": {
            "stage": "generate",
            "retrievals": "retrievals",
            "model": model,
            "model_type": options["model_type"],
            "max_new_tokens": 24,
            "min_new_tokens": 1,
            "own_batches": True,
        },
    }
    content = {
        "output": output,
        "nights": 2,
        "options": {"num_threads": 1, "progress": "none"},
        "steps": steps,
    }
    path = work / f"{output}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "pipelines.run", str(path), *flags])
    if done.returncode:
        raise SystemExit(f"{path}: the run ended with status {done.returncode}")
    return time.monotonic() - begin


def _folder(output: Path, step: str, kind: str) -> Path:
    current = json.loads((output / "current.json").read_text())
    return output / current[kind][step]


def _manifest(output: Path, step: str, kind: str = "steps") -> Manifest:
    manifest = read_manifest(STORAGE, str(_folder(output, step, kind)))
    assert manifest is not None  # the run ended with status 0
    return manifest


def _rows(output: Path, step: str) -> pa.Table:
    folder = _folder(output, step, "steps")
    return pa.concat_tables(pq.read_table(folder / part.name) for part in _manifest(output, step).parts)


def _print_table(nights: dict[float, Night]) -> None:
    print(
        "\n| share | documents changed | retrievals changed | answers recomputed | answers changed | full, s | "
        "refresh, s | equal |\n|---|---|---|---|---|---|---|---|"
    )
    for share, night in nights.items():
        print(
            f"| {share:.1%} | {night.documents} | {night.retrievals} | {night.recomputed} | {night.changed} | "
            f"{night.full_seconds:.0f} | {night.refresh_seconds:.0f} | {'yes' if night.agrees else 'NO'} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
