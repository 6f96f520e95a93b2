"""Approximate factories beside the exact search: recall, speed, bytes, build time, memory."""

import statistics
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.report import Comparison
from rag_core.mips.approximate import Effort
from rag_core.mips.codes import add_codes, sample_rows
from rag_core.mips.factory import Factory
from rag_core.mips.index import MipsIndex
from rag_core.mips.price import recall
from rag_core.mips.tuning import Sample, choose, tune
from rag_core.peak_memory import PeakMemory
from rag_core.storage import LocalStorage

STORAGE = LocalStorage()
RECALL_AT, MIN_RECALL = 20, 0.95
RUNS = 3


def measure_factories(
    folder: str, index: dict, questions: np.ndarray, factories: Sequence[str], memory_bytes: int
) -> list[Comparison]:
    """Each factory beside the exact search, both over the questions that took no part in tuning."""
    mixed = np.random.default_rng(3).permutation(questions)
    tuned, measured = np.array_split(mixed, 2)
    flat = MipsIndex.open(STORAGE, folder, index)
    none = np.full(len(measured), -1)
    to_tune = Sample.take(flat, tuned, none[: len(tuned)], RECALL_AT, memory_bytes)
    reference = Sample.take(flat, measured, none, RECALL_AT, memory_bytes)
    comparisons = []
    print(
        f"{'factory':<26}{'nprobe':>7}{'refine':>7}{'recall@20':>10}{'q/s':>9}{'× exact':>9}{'bytes':>7}{'+disk':>7}"
        f"{'build s':>9}{'MiB':>7}"
    )
    for text in factories:
        factory = Factory.parse(text, index["dimension"])
        began = time.perf_counter()
        with PeakMemory() as memory:
            sample = flat.vectors(sample_rows(index["rows"], factory.train_rows_wanted()))
            manifest = add_codes(STORAGE, folder, index, factory, sample)
        build = time.perf_counter() - began
        opened = MipsIndex.open(STORAGE, folder, manifest | {"effort": Effort().to_json()})
        trials = tune(
            opened,
            factory,
            to_tune,
            min_recall=MIN_RECALL,
            recall_at=RECALL_AT,
            memory_bytes=memory_bytes,
        )
        effort = choose(trials, MIN_RECALL).effort
        assert effort is not None  # only the exact search has none
        ours, peers = [], []
        for _ in range(RUNS):
            began = time.perf_counter()
            found = opened.search(measured, RECALL_AT, memory_bytes=memory_bytes, effort=effort)
            ours.append(time.perf_counter() - began)
            began = time.perf_counter()
            flat.search(measured, RECALL_AT, memory_bytes=memory_bytes)
            peers.append(time.perf_counter() - began)
        reached = recall(found, reference.exact, RECALL_AT)
        mine, peer = statistics.median(ours), statistics.median(peers)
        codes = opened.code_bytes / opened.rows
        stored = index["dimension"] * np.dtype(index["vector_dtype"]).itemsize
        print(
            f"{text:<26}{effort.nprobe:>7}{effort.refine_factor:>7}{reached.value:>10.4f}"
            f"{len(measured) / mine:>9,.0f}{peer / mine:>9.1f}{codes:>7.0f}{stored:>7}"
            f"{build:>9.0f}{memory.anonymous >> 20:>7}",
            flush=True,
        )
        settings = {
            "rows": index["rows"],
            "dimension": index["dimension"],
            "questions": len(measured),
            "n_docs": RECALL_AT,
            "effort": effort.to_json(),
            "recall": reached.to_json(),
            "code_bytes_per_vector": codes,
            "stored_bytes_per_vector": stored,
            "build_seconds": build,
            "peak_anonymous_bytes": memory.anonymous,
        }
        comparisons.append(
            Comparison(
                f"{text}, peer: our exact search",
                "s",
                mine,
                peer,
                peer / mine,
                RUNS,
                settings,
                reached.value >= MIN_RECALL,
            )
        )
    return comparisons
