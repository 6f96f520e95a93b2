"""Small indexes on disk for the tests, and the reference that searches are compared with."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from rag_core.mips.index import MipsIndex
from rag_core.mips.search_result import SearchResult
from rag_core.mips.shard import ShardInfo, write_shard
from rag_core.storage import LocalStorage


def passages(ids: Sequence[str]) -> pa.RecordBatch:
    """Passages whose every column can be told from the id."""
    return pa.record_batch(
        {
            "passage_id": pa.array(ids, pa.string()),
            "document_id": pa.array([f"document of {passage_id}" for passage_id in ids], pa.string()),
            "passage_number": pa.array([len(passage_id) for passage_id in ids], pa.int32()),
            "title": pa.array([f"title of {passage_id}" for passage_id in ids], pa.string()),
            "text": pa.array([f"text of {passage_id} " * 20 for passage_id in ids], pa.string()),
        }
    )


def in_batches(
    ids: Sequence[str], vectors: np.ndarray, rows: int
) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """What `write_shard` takes, in batches of `rows`."""
    for start in range(0, len(ids), rows):
        yield passages(ids[start : start + rows]), vectors[start : start + rows]


def write_index(
    folder: str, ids: Sequence[str], vectors: np.ndarray, bounds: Sequence[int] = (), batch_rows: int = 100
) -> dict:
    """Writes shards that end at `bounds` and at the last row; returns the manifest's index object."""
    edges = [0, *bounds, len(ids)]
    shards: list[ShardInfo] = []
    for start, stop in itertools.pairwise(edges):
        shards.append(
            write_shard(
                LocalStorage(),
                folder,
                f"shard-{len(shards):05d}",
                rows=stop - start,
                dimension=vectors.shape[1],
                vector_dtype=vectors.dtype.name,
                batches=in_batches(ids[start:stop], vectors[start:stop], batch_rows),
            )
        )
    return {
        "factory": "Flat",
        "metric": "inner_product",
        "dimension": vectors.shape[1],
        "vector_dtype": vectors.dtype.name,
        "rows": len(ids),
        "shards": [shard.to_json() for shard in shards],
        "encoder": {"fingerprint": "of the encoder"},
    }


def open_index(folder: str, manifest: dict) -> MipsIndex:
    return MipsIndex.open(LocalStorage(), folder, manifest)


def reference_search(
    ids: Sequence[str], vectors: np.ndarray, questions: np.ndarray, n_docs: int
) -> SearchResult:
    """The float64 matrix product of the stored vectors, rounded once, sorted by (−score, id)."""
    scores = (questions.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    rows = np.stack([np.lexsort((np.array(ids), -row)) for row in scores])[:, :n_docs]
    return SearchResult(np.take_along_axis(scores, rows, axis=1), rows)


def assert_same(found: SearchResult, expected: SearchResult) -> None:
    """Rows and scores, bit for bit."""
    assert found.scores.dtype == np.float32
    assert found.rows.dtype == np.int64
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)
