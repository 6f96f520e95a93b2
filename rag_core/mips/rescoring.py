"""Scores of candidates from their stored vectors, whatever proposed them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from rag_core.mips.scores import exact_scores
from rag_core.mips.vectors import ShardVectors

# Exact scoring works in the processor's cache.
PAIRS_IN_CACHE = 2048
_SCREENED_PAIRS = 16_384


def score_pairs(
    shards: Sequence[ShardVectors],
    questions: np.ndarray,
    numbers: np.ndarray,
    rows: np.ndarray,
    at_once: int = PAIRS_IN_CACHE,
) -> np.ndarray:
    """Exact scores, float32 [n], of pairs of a question and a row.

    Args:
      shards: in the order of their rows.
      questions: float32 [B, D].
      numbers: int64 [n], each pair's question.
      rows: int64 [n], each pair's row, in one of `shards`.
      at_once: pairs whose vectors are held together.
    """
    scores = np.empty(len(rows), dtype=np.float32)

    def score(shard: ShardVectors, pairs: np.ndarray) -> None:
        scores[pairs] = exact_scores(questions[numbers[pairs]], shard.take(rows[pairs]))

    threads = torch.get_num_threads()
    step = max(1, at_once // threads)
    with ThreadPoolExecutor(threads) as pool:  # NumPy lets other threads run meanwhile
        scored = [
            pool.submit(score, shard, places[start : start + step])
            for shard, places in by_shard(shards, rows)
            for start in range(0, len(places), step)
        ]
        for future in scored:
            future.result()
    return scores


def screen(shards: Sequence[ShardVectors], questions: np.ndarray, rows: np.ndarray, width: int) -> np.ndarray:
    """The `width` best of each question's candidates by float32 product with their stored vectors.

    Args:
      shards: in the order of their rows.
      questions: float32 [B, D].
      rows: int64 [B, C], −1 where there is no candidate.
      width: at most C.

    Returns:
      rows int64 [B, width], in no order.
    """
    kept = np.empty((len(rows), width), dtype=np.int64)
    step = max(1, _SCREENED_PAIRS // rows.shape[1])
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        candidates = torch.from_numpy(_gathered(shards, part.reshape(-1))).float()
        candidates = candidates.view(*part.shape, -1)
        asked = torch.from_numpy(questions[start : start + step])
        products = torch.bmm(candidates, asked[:, :, None]).squeeze(2)
        products[torch.from_numpy(part < 0)] = -torch.inf
        best = torch.topk(products, width, dim=1, sorted=False).indices.numpy()
        kept[start : start + step] = np.take_along_axis(part, best, axis=1)
    return kept


def _gathered(shards: Sequence[ShardVectors], rows: np.ndarray) -> np.ndarray:
    """The stored vectors [n, D] of `rows` (int64 [n]); whatever is in memory for −1."""
    shape = (len(rows), shards[0].info.dimension)
    vectors = np.empty(shape, dtype=shards[0].info.vector_dtype)
    for shard, places in by_shard(shards, rows):
        vectors[places] = shard.take(rows[places])
    return vectors


def by_shard(shards: Sequence[ShardVectors], rows: np.ndarray) -> list[tuple[ShardVectors, np.ndarray]]:
    """For each shard that has some of `rows` (int64 [n], −1 is in none): their places, by rising row."""
    order = np.argsort(rows, kind="stable")  # the disk is read forwards
    edges = np.searchsorted(rows[order], [shard.first_row for shard in shards])
    pieces = np.split(order, edges)[1:]
    return [(shard, places) for shard, places in zip(shards, pieces, strict=True) if len(places)]
