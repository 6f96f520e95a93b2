"""What `encode` costs beside the model: reading, tokenizing, Beam, writing, with an encoder that does nothing.

    python -m benchmarks.encoding_overhead --input psgs_w100.tsv.gz --tokenizer all-MiniLM-L6-v2 --work work

The stage runs whole, with vectors of BERT-base's size that cost nothing. The measure is passages a second
of processor time, all threads counted, so it is by core; after it a profile says where the time goes. The
peer does the same with `datasets`: Parquet in, `map` with the same tokenizer and vectors, Parquet out.
"""

import argparse
import cProfile
import dataclasses
import os
import pstats
import resource
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from datasets import Dataset, disable_caching, disable_progress_bars
from transformers import AutoTokenizer

from benchmarks.report import Comparison, argument_parser, write_report
from pipelines import chunk, encode
from pipelines.encode import EncodeSettings, encode_with
from pipelines.transforms.models import PassageEncoderLoader, limit_threads
from rag_core.encoders.encoder import EncoderKind, PassageEncoder
from rag_core.encoders.tokenization import tokenizing
from rag_core.encoders.tower import Tower

DIMENSION = 768
MAX_TOKENS = 256
BATCH_TOKENS = 65_536
PROFILED_FUNCTIONS = 25


class IdleModel:
    """Gives vectors that were drawn beforehand."""

    dtype = torch.float32
    is_padded = False

    def __init__(self) -> None:
        self._vectors = torch.randn(BATCH_TOKENS, DIMENSION)

    def __call__(self, rows: Sequence[np.ndarray]) -> torch.Tensor:
        return self._vectors[: len(rows)]


@dataclass(frozen=True)
class IdleLoader(PassageEncoderLoader):
    """Loads a tokenizer and no model."""

    def _load(self) -> PassageEncoder:
        tokenize = tokenizing(AutoTokenizer.from_pretrained(self.model), MAX_TOKENS)
        tower = Tower(tokenize, IdleModel(), [], DIMENSION, MAX_TOKENS)
        return PassageEncoder(EncoderKind.DPR, "idle", tower)


def main() -> None:
    """Measures both in turns, then profiles ours."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--input", required=True, help="a corpus that chunk reads")
    parser.add_argument("--tokenizer", required=True, help="folder with a tokenizer")
    parser.add_argument("--work", required=True, help="folder for passages and vectors")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()

    passages = str(Path(arguments.work, "passages"))
    if chunk.main(["--input", arguments.input, "--output", passages]):
        raise SystemExit(f"{arguments.input}: cannot be chunked")
    count = sum(pq.read_metadata(path).num_rows for path in Path(passages).glob("*.parquet"))
    costs: dict[str, list[float]] = {"ours": [], "peer": []}
    walls: list[float] = []
    for _ in range(arguments.runs):
        wall, cost = measured(lambda: run_stage(arguments, passages))
        walls.append(wall)
        costs["ours"].append(cost)
        costs["peer"].append(measured(lambda: run_datasets(arguments, passages))[1])
    profile(lambda: run_stage(arguments, passages))
    ours, peer = (count / statistics.median(costs[name]) for name in ("ours", "peer"))
    print(f"{count:,} passages, {count / statistics.median(walls):,.0f} passages/s by the clock")
    write_report(
        [
            Comparison(
                "encode without a model, against datasets.map",
                "passages/s of a core",
                ours,
                peer,
                ours / peer,
                arguments.runs,
                {"passages": count, "dimension": DIMENSION},
                agrees=True,
            )
        ],
        arguments.json,
    )


def run_stage(arguments: argparse.Namespace, passages: str) -> None:
    """The stage, from the passages to a finished data set."""
    settings = EncodeSettings(
        output=str(Path(arguments.work, "embeddings")),
        passages=passages,
        encoder=arguments.tokenizer,
        batch_tokens=BATCH_TOKENS,
        overwrite=True,
        progress="none",
    )
    loader = IdleLoader(
        model=arguments.tokenizer, device="cpu", dtype="float32", allow_pickle=False, num_threads=1
    )
    stage = dataclasses.replace(encode.STAGE, prepare=lambda settings, workers: encode_with(loader, settings))
    stage.run(settings, [])


def run_datasets(arguments: argparse.Namespace, passages: str) -> None:
    """The peer: the same columns read, tokenized and written, with vectors that cost nothing."""
    limit_threads(1)
    disable_caching()
    disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
    vectors = np.random.default_rng(0).standard_normal((1_000, DIMENSION)).astype(np.float16)

    def encode_batch(batch: dict[str, list]) -> dict[str, object]:
        tokenizer(batch["title"], batch["text"], truncation=True, max_length=MAX_TOKENS)
        return {"vector": vectors[: len(batch["text"])]}

    cache = Path(arguments.work, "cache")
    shutil.rmtree(cache, ignore_errors=True)
    files = sorted(str(path) for path in Path(passages).glob("*.parquet"))
    data = Dataset.from_parquet(files, cache_dir=str(cache))
    encoded = data.map(
        encode_batch,
        batched=True,
        batch_size=1_000,
        remove_columns=["document_id", "passage_number", "title", "text"],
    )
    encoded.to_parquet(str(Path(arguments.work, "peer.parquet")))


def measured(run: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the clock, and of processor time over all threads of this process."""
    began, used = time.perf_counter(), _processor_seconds()
    run()
    return time.perf_counter() - began, _processor_seconds() - used


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def profile(run: Callable[[], None]) -> None:
    """Prints in which functions a run spends its time, over all its threads."""
    profiles: list[cProfile.Profile] = []

    def begin(*_: object) -> None:
        profiles.append(cProfile.Profile())
        profiles[-1].enable()

    threading.setprofile(begin)
    try:
        begin()
        run()
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]
        profiles[0].disable()
    statistics_ = pstats.Stats(profiles[0])
    for other in profiles[1:]:
        statistics_.add(other)
    statistics_.sort_stats("tottime").print_stats(PROFILED_FUNCTIONS)


if __name__ == "__main__":
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    main()
