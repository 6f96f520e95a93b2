"""`--factory auto`: candidates tried on a sample of the corpus, the quickest within memory and recall chosen."""

import dataclasses
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from rag_core.mips.approximate import Effort
from rag_core.mips.codes import add_codes, sample_rows
from rag_core.mips.factory import EXACT, Factory
from rag_core.mips.index import MipsIndex
from rag_core.mips.shard import write_shard
from rag_core.mips.tuning import Sample, Trial, choose_effort, quickest_factory, tune
from rag_core.storage import LocalStorage

AUTO = "auto"
TRIAL_ROWS = 100_000
_LEAST_ROWS = 20_000  # below it, the exact search is quick and a choice of no use
_VECTORS_PER_CENTROID = 40


def candidate_factories(rows: int, dimension: int, memory_bytes: int) -> list[str]:
    """Factories worth trying whose codes, for so many rows, fit into half of `memory_bytes`.

    An inverted file gets about 4·√rows lists, of which each has enough rows to train on.
    """
    lists = 2 ** int(np.log2(max(1, min(4 * np.sqrt(rows), rows / _VECTORS_PER_CENTROID))))
    halves, quarters = dimension // 2, dimension // 4
    bytes_per_vector = {
        "HNSW32": 4 * dimension + 280,
        f"IVF{lists},Flat": 4 * dimension + 8,
        f"IVF{lists},SQ8": dimension + 8,
    }
    if dimension % 4 == 0:
        bytes_per_vector[f"IVF{lists},PQ{halves}x4fs,RFlat"] = halves // 2 + 8
        bytes_per_vector[f"IVF{lists},PQ{quarters}x4fs,RFlat"] = quarters // 2 + 8
    return [text for text, size in bytes_per_vector.items() if size * rows <= memory_bytes // 2]


def choose_factory(
    index: MipsIndex,
    questions: np.ndarray | None,
    *,
    n_questions: int,
    memory_bytes: int,
    min_recall: float,
    recall_at: int,
) -> tuple[str, list[Trial]]:
    """The factory for an index's vectors, and the table it was chosen from.

    Every candidate is built over a sample of at most `TRIAL_ROWS` rows and tuned to `min_recall`. An
    inverted file that wins is made for the whole corpus with as many more lists as that calls for.

    Args:
      index: exact, over the corpus.
      questions: float32 [B, D] to tune on; by default sampled rows, each without itself.
      n_questions: how many rows to sample where `questions` is None.
      memory_bytes: what searching the finished index may take.
    """
    live = index.live
    if len(live) < _LEAST_ROWS:
        return EXACT, []
    vectors = index.vectors(live[sample_rows(len(live), TRIAL_ROWS)])
    with tempfile.TemporaryDirectory(prefix="rag-beam-auto-") as folder:
        flat = _write_exact(folder, vectors)
        storage = LocalStorage()
        exact = MipsIndex.open(storage, folder, flat)
        own_rows = np.full(0 if questions is None else len(questions), -1)
        if questions is None:
            own_rows = sample_rows(len(vectors), n_questions, seed=1)
            questions = vectors[own_rows]
        began = time.perf_counter()
        sample = Sample.take(exact, questions, own_rows, recall_at, memory_bytes)
        seconds = time.perf_counter() - began
        size = vectors.itemsize * vectors.shape[1]
        trials = [Trial(EXACT, None, 1.0, 1.0, len(questions) / seconds, size, len(vectors) * size)]
        wanted = candidate_factories(len(live), index.dimension, memory_bytes)
        for text, whole_text in _paired(len(vectors), index.dimension, wanted):
            factory = Factory.parse(text, index.dimension)
            training = vectors[sample_rows(len(vectors), factory.train_rows_wanted(), seed=2)]
            manifest = add_codes(storage, folder, flat, factory, training)
            opened = MipsIndex.open(storage, folder, manifest | {"effort": Effort().to_json()})
            efforts = tune(
                opened,
                factory,
                sample,
                min_recall=min_recall,
                recall_at=recall_at,
                memory_bytes=memory_bytes,
            )
            best = choose_effort(efforts, min_recall)
            trials.append(dataclasses.replace(best, factory=whole_text))
    return quickest_factory(trials, min_recall).factory, trials


def _paired(rows: int, dimension: int, wanted: list[str]) -> Iterator[tuple[str, str]]:
    """Each wanted factory as it is tried over `rows` rows, and as it is made for the corpus."""
    tried = candidate_factories(rows, dimension, 1 << 62)
    kinds = {_kind(text): text for text in tried}
    for text in wanted:
        yield kinds[_kind(text)], text


def _kind(text: str) -> str:
    """A factory without its number of lists."""
    first, _, rest = text.partition(",")
    return f"IVF,{rest}" if first.startswith("IVF") else text


def _write_exact(folder: str, vectors: np.ndarray) -> dict:
    """An exact index of `vectors` (float32 [n, D]); returns its manifest's index object."""
    passages = pa.record_batch({"passage_id": pa.array([str(row) for row in range(len(vectors))])})
    info = write_shard(
        LocalStorage(),
        folder,
        "sample",
        rows=len(vectors),
        dimension=vectors.shape[1],
        vector_dtype="float32",
        batches=[(passages, vectors)],
    )
    return {
        "factory": EXACT,
        "metric": "inner_product",
        "dimension": info.dimension,
        "vector_dtype": info.vector_dtype,
        "rows": info.rows,
        "shards": [info.to_json()],
        "encoder": None,
    }
