"""Maximum inner product search at any size: exact from disk, and approximate factories with their price.

    python -m benchmarks.mips                                    # a minute: 200,000 rows
    python -m benchmarks.mips --rows 21015324 --questions 3610   # all of DPR's Wikipedia: 32 GB of disk
    python -m benchmarks.mips --rows 1000000 --embeddings out/embeddings --question_file questions.jsonl \\
        --encoder all-MiniLM-L6-v2 --factories IVF4096,Flat IVF4096,PQ192x4fs,RFlat

Vectors come from a generator: clustered ones, or with `--embeddings` real ones, enlarged by
displacing each by differences of neighbouring ones. The exact search is measured against the time that the
matrix product alone takes on this machine and the time that the disk takes to read the vectors, both
measured in the same run, and against FAISS's `IndexFlatIP` in memory on a slice of the rows. Each of
`--factories` is tuned on half of the questions to recall@20 of 0.95 and measured on the others, in
turns with the exact search.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np

from benchmarks.mips_factories import measure_factories
from benchmarks.mips_vectors import RealVectors, Vectors, make_index
from benchmarks.report import Comparison, argument_parser, write_report
from rag_core.mips.index import MipsIndex
from rag_core.mips.shard import ShardInfo
from rag_core.peak_memory import PeakMemory
from rag_core.storage import LocalStorage, join

STORAGE = LocalStorage()
PRODUCT_ROWS = 16_384
PRODUCT_RUNS, SLICE_RUNS = 25, 3
FLOAT32_ERROR = 1e-5  # of a float32 product, as a share of the norms' product


def main() -> None:
    """Makes the index, measures, prints, writes the report, removes the index."""
    arguments = _arguments()
    work = Path(tempfile.mkdtemp(prefix="mips-", dir=arguments.work))
    try:
        source = RealVectors(arguments) if arguments.embeddings else Vectors(arguments)
        began = time.perf_counter()
        index = make_index(str(work), source, arguments.shard_rows)
        print(
            f"index of {source.rows:,} × {source.dimension} {source.dtype}: {time.perf_counter() - began:.0f} s"
        )
        questions = source.questions(arguments.questions)
        if arguments.factories:
            comparisons = measure_factories(
                str(work), index, questions, arguments.factories, arguments.memory_bytes
            )
        else:
            comparisons = measure_exact(str(work), index, questions, arguments)
        write_report(comparisons, arguments.json)
    finally:
        shutil.rmtree(work)


def _arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rows", type=int, default=200_000, help="vectors to generate")
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--questions", type=int, default=1_000)
    parser.add_argument("--n_docs", type=int, default=50)
    parser.add_argument("--vector_dtype", choices=("float16", "float32"), default="float16")
    parser.add_argument("--shard_rows", type=int, default=500_000)
    parser.add_argument("--memory_bytes", type=int, default=2 << 30)
    parser.add_argument("--embeddings", help="real vectors: a data set of rag-beam encode, or Parquet")
    parser.add_argument("--question_file", help="real questions for --embeddings: JSON lines")
    parser.add_argument("--encoder", help="of the real questions")
    parser.add_argument("--factories", nargs="+", default=[], help="FAISS factories to build and to measure")
    parser.add_argument("--slice_rows", type=int, default=500_000, help="of the comparison with IndexFlatIP")
    parser.add_argument("--work", help="where the index is made and removed (default: the system's)")
    return parser.parse_args()


def measure_exact(
    folder: str, index: dict, questions: np.ndarray, arguments: argparse.Namespace
) -> list[Comparison]:
    """The whole index from a cold disk, then a slice beside FAISS."""
    flops = 2 * len(questions) * index["rows"] * index["dimension"]
    vector_files = [join(folder, ShardInfo.from_json(entry).vectors_file) for entry in index["shards"]]
    size = sum(STORAGE.size(path) for path in vector_files)
    product_rates = product_rate(questions)
    disk = disk_rate(vector_files)
    for path in vector_files:
        forget(path)
    with PeakMemory() as memory:
        began = time.perf_counter()
        opened = MipsIndex.open(STORAGE, folder, index)
        opened.search(questions, arguments.n_docs, memory_bytes=arguments.memory_bytes)
        wall = time.perf_counter() - began
    product_rates += product_rate(questions)
    product = statistics.median(product_rates)
    print(f"matrix product: {product / 1e9:.0f} GFLOP/s (runs {_spread(product_rates, 1e9)})")
    print(f"disk: {disk / 1e6:.0f} MB/s; the vectors are {size / 1e9:.1f} GB: {size / disk:.0f} s")
    print(f"search: {wall:.1f} s; the product alone: {flops / product:.1f} s")
    print(f"memory of the search: anonymous {memory.anonymous >> 20} MiB, mapped {memory.mapped >> 20} MiB")
    settings = {
        "rows": index["rows"],
        "dimension": index["dimension"],
        "questions": len(questions),
        "n_docs": arguments.n_docs,
        "vector_dtype": index["vector_dtype"],
        "memory_bytes": arguments.memory_bytes,
        "wall_s": wall,
        "product_s": flops / product,
        "disk_s": size / disk,
        "peak_anonymous_bytes": memory.anonymous,
        "peak_mapped_bytes": memory.mapped,
    }
    whole = Comparison(
        "exact search from disk, peer: the matrix product alone",
        "s",
        wall,
        flops / product,
        flops / product / wall,
        1,
        settings,
        True,  # there is no result to compare
    )
    return [whole, beside_faiss(folder, index, questions, arguments)]


def beside_faiss(
    folder: str, index: dict, questions: np.ndarray, arguments: argparse.Namespace
) -> Comparison:
    """The first shards, by the index and by `faiss.IndexFlatIP`, in turns."""
    entries, rows = [], 0
    for entry in index["shards"]:
        if entries and rows + entry["rows"] > arguments.slice_rows:
            break
        entries.append(entry)
        rows += entry["rows"]
    opened = MipsIndex.open(STORAGE, folder, index | {"rows": rows, "shards": entries})
    flat = faiss.IndexFlatIP(index["dimension"])
    for entry in entries:
        stored = np.load(join(folder, ShardInfo.from_json(entry).vectors_file), mmap_mode="r")
        for start in range(0, len(stored), PRODUCT_ROWS):
            flat.add(stored[start : start + PRODUCT_ROWS].astype(np.float32))
    opened.search(questions[:1], arguments.n_docs, memory_bytes=arguments.memory_bytes)  # proves the files
    ours, peers = [], []
    for _ in range(SLICE_RUNS):
        began = time.perf_counter()
        found = opened.search(questions, arguments.n_docs, memory_bytes=arguments.memory_bytes)
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        peer_scores, peer_rows = flat.search(questions, arguments.n_docs)
        peers.append(time.perf_counter() - began)
    largest = np.linalg.norm(questions, axis=1) * max(entry["max_norm"] for entry in entries)
    error = (FLOAT32_ERROR * largest)[:, None]
    same = found.rows == peer_rows
    agrees = bool((same | (np.abs(found.scores - peer_scores) <= error)).all())
    mine, peer = statistics.median(ours), statistics.median(peers)
    return Comparison(
        "exact search of a slice in the system's cache, peer: faiss.IndexFlatIP in memory (float32)",
        "s",
        mine,
        peer,
        peer / mine,
        SLICE_RUNS,
        {
            "rows": rows,
            "questions": len(questions),
            "n_docs": arguments.n_docs,
            "same_rows": float(same.mean()),
        },
        agrees,
    )


def product_rate(questions: np.ndarray) -> list[float]:
    """Floating point operations a second of NumPy's float32 matrix product, run by run."""
    block = np.random.default_rng(2).standard_normal((PRODUCT_ROWS, questions.shape[1]), dtype=np.float32)
    questions = questions[:4096]
    products = np.empty((len(questions), PRODUCT_ROWS), dtype=np.float32)
    rates = []
    for _ in range(PRODUCT_RUNS):
        began = time.perf_counter()
        np.matmul(questions, block.T, out=products)
        rates.append(2 * products.size * questions.shape[1] / (time.perf_counter() - began))
    return rates[1:]  # the first one touches the result's memory


def disk_rate(paths: list[str], most_bytes: int = 2 << 30) -> float:
    """Bytes a second of reading a file from its beginning, the system's cache of it dropped."""
    forget(paths[0])
    read = 0
    began = time.perf_counter()
    with open(paths[0], "rb", buffering=0) as file:
        while read < most_bytes and (piece := file.read(8 << 20)):
            read += len(piece)
    return read / (time.perf_counter() - began)


def forget(path: str) -> None:
    """Drops a file from the system's cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _spread(values: list[float], unit: float) -> str:
    return f"{min(values) / unit:.0f} to {max(values) / unit:.0f}"


if __name__ == "__main__":
    main()
