"""Vectors to measure searches on, made up or real, and an index written from them."""

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pyarrow as pa

from pipelines.dataset.reader import open_dataset
from pipelines.transforms.vectors import vector_matrix
from rag_core.encoders import load_question_encoder
from rag_core.mips.shard import ShardInfo, write_shard
from rag_core.storage import LocalStorage

STORAGE = LocalStorage()
GENERATED_ROWS = 32_768  # of a block of the generator
CLUSTERS = 4096
NOISE = 0.8  # of a vector, beside its cluster's centre of the same length
NEIGHBOURS = 10  # of a real vector, whose differences displace others
DISPLACEMENT = 0.7  # of such a difference


class Vectors:
    """Clustered vectors from a generator: centres, and noise around each."""

    def __init__(self, arguments: argparse.Namespace):
        self.rows, self.dimension, self.dtype = arguments.rows, arguments.dim, arguments.vector_dtype
        centres = np.random.default_rng(0).standard_normal((CLUSTERS, self.dimension), dtype=np.float32)
        self._centres = centres

    def blocks(self, begin: int, end: int) -> Iterator[np.ndarray]:
        """The rows [begin, end) in blocks, made by two threads ahead of the reader."""
        starts = range(begin, end, GENERATED_ROWS)
        with ThreadPoolExecutor(max_workers=2) as pool:
            waiting = [pool.submit(self._block, start, end) for start in starts[:3]]
            for place in range(len(starts)):
                yield waiting.pop(0).result()
                for start in starts[place + 3 : place + 4]:
                    waiting.append(pool.submit(self._block, start, end))

    def questions(self, count: int) -> np.ndarray:
        """Vectors of the same kind that are not in the index."""
        return self._around(np.random.default_rng([1, 1]), count)

    def _block(self, start: int, end: int) -> np.ndarray:
        block = self._around(np.random.default_rng([0, start]), min(GENERATED_ROWS, end - start))
        return block.astype(self.dtype)

    def _around(self, rng: np.random.Generator, count: int) -> np.ndarray:
        vectors = rng.standard_normal((count, self.dimension), dtype=np.float32)
        vectors *= NOISE
        vectors += self._centres[rng.integers(0, CLUSTERS, count)]
        return vectors


class RealVectors(Vectors):
    """Real embeddings first, then displaced ones: a real vector and the difference of two neighbouring ones.

    So what is added lies about as far from what is real, and in the same directions, as real
    neighbours lie from each other.
    """

    def __init__(self, arguments: argparse.Namespace):
        embeddings = open_dataset(STORAGE, arguments.embeddings, "embeddings")
        batches = [
            vector_matrix(batch.column("vector"), embeddings.path) for batch in embeddings.read(STORAGE)
        ]
        self._real = np.concatenate(batches).astype(np.float32)
        self._file, self._encoder = arguments.question_file, arguments.encoder
        self.rows, self.dimension, self.dtype = arguments.rows, self._real.shape[1], arguments.vector_dtype
        _, found = faiss.knn(self._real, self._real, NEIGHBOURS + 1, metric=faiss.METRIC_INNER_PRODUCT)
        self._neighbours = found[:, 1:]

    def questions(self, count: int) -> np.ndarray:
        """The first questions of the file, encoded."""
        with open(self._file) as file:
            texts = [json.loads(line)["question"] for line, _ in zip(file, range(count), strict=False)]
        encoder = load_question_encoder(self._encoder, device="cpu")
        return encoder.encode(texts, batch_tokens=2_048)

    def _block(self, start: int, end: int) -> np.ndarray:
        rng = np.random.default_rng([2, start])
        rows = np.arange(start, min(start + GENERATED_ROWS, end))
        here = self._real[rows % len(self._real)]
        other = rng.integers(0, len(self._real), len(rows))
        neighbours = self._neighbours[other, rng.integers(0, NEIGHBOURS, len(rows))]
        displaced = (rows >= len(self._real)).astype(np.float32)[:, None] * DISPLACEMENT
        block = here + displaced * (self._real[other] - self._real[neighbours])
        block *= np.linalg.norm(here, axis=1, keepdims=True) / np.linalg.norm(block, axis=1, keepdims=True)
        return block.astype(self.dtype)


def make_index(folder: str, source: Vectors, shard_rows: int) -> dict:
    """Writes the shards; returns the manifest's index object."""
    shards: list[ShardInfo] = []
    for begin in range(0, source.rows, shard_rows):
        end = min(begin + shard_rows, source.rows)
        shards.append(
            write_shard(
                STORAGE,
                folder,
                f"shard-{len(shards):05d}",
                rows=end - begin,
                dimension=source.dimension,
                vector_dtype=source.dtype,
                batches=_with_passages(begin, source.blocks(begin, end)),
            )
        )
    return {
        "factory": "Flat",
        "metric": "inner_product",
        "dimension": source.dimension,
        "vector_dtype": source.dtype,
        "rows": source.rows,
        "shards": [shard.to_json() for shard in shards],
        "encoder": None,
    }


def _with_passages(begin: int, blocks: Iterator[np.ndarray]) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    for block in blocks:
        ids = np.char.zfill(np.arange(begin, begin + len(block)).astype("U8"), 8)
        yield pa.record_batch({"passage_id": pa.array(ids)}), block
        begin += len(block)
