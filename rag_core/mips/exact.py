"""Exact maximum inner product search over vectors on disk, in a stated amount of memory.

The float32 matrix product is quick and slightly wrong, so it only proposes. First pass: every block
of vectors against all questions (FAISS fuses product and selection), keeping a few more rows than
asked for each question; their scores are then recomputed exactly. A question is settled where no row
left behind can reach its K-th score, by the bound of `scores.product_error`. The others (many equal
or nearly equal vectors) take a second pass, in which every row that could reach the K-th score is
scored exactly. So the result is the same for any block size, number of shards and split of questions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import torch

from rag_core.errors import UsageError
from rag_core.mips.scores import exact_scores, product_error
from rag_core.mips.search_result import IdsOf, SearchResult, merge_top_k, rank
from rag_core.mips.vectors import ShardVectors

# Blocks beyond this are no quicker; far below it, starting a selection in each block shows.
_LARGEST_BLOCK = 65_536
# FAISS multiplies in tiles of at most 4096 questions × 1024 vectors.
_TILE_QUESTIONS, _TILE_ROWS = 4096, 1024
# Exact scoring works in the processor's cache.
_PAIRS_IN_CACHE = 1024
# Bytes for each candidate: score and row of the running selection, of a block's, of the two joined
# with their order, and of the next running selection; exact scoring and ranking need no more.
_CANDIDATE_BYTES = 80
# Bytes for each component of a pair in exact scoring: stored, float32 and two float64 copies.
_PAIR_BYTES = 24
# The second pass: questions that share a block's conversion, and bytes for each row of the block that
# passes for one of them: its place, exact score and passage id.
_UNSETTLED_AT_ONCE = 16
_SURVIVOR_BYTES = 256


def exact_search(
    shards: Sequence[ShardVectors],
    questions: np.ndarray,
    n_docs: int,
    *,
    memory_bytes: int,
    ids_of: IdsOf,
) -> SearchResult:
    """The `n_docs` best rows of `shards` for each question, by (−score, passage id).

    Threads are FAISS's and torch's, as set for the process; they do not change the result.

    Args:
      shards: any shards of one index.
      questions: float32 [B, D].
      n_docs: K; all rows are returned where the shards have fewer.
      memory_bytes: for everything allocated here, apart from `questions`, the result and the
        operating system's cache of mapped files. Where it does not hold all questions' candidates,
        the questions are split and the vectors are read several times.
      ids_of: passage ids of rows; asked where scores tie.

    Raises:
      ValueError: a question's vector is not finite or has another dimension, or `n_docs` < 1.
      UsageError: a shard's file is not the one the manifest names, or `memory_bytes` is too small.
    """
    dimension = shards[0].info.dimension
    questions = _checked(questions, dimension)
    if n_docs < 1:
        raise ValueError(f"n_docs is expected to be at least 1, got {n_docs}")
    total = sum(shard.rows for shard in shards)
    n_docs = min(n_docs, total)
    # more where K is larger, as scores lie closer together further down
    width = min(total, n_docs + 8 + n_docs // 8)
    plan = _plan(memory_bytes, len(questions), dimension, width)
    scores = np.empty((len(questions), n_docs), dtype=np.float32)
    rows = np.empty((len(questions), n_docs), dtype=np.int64)
    # without questions the files are still proved
    for start in range(0, max(1, len(questions)), plan.questions):
        part = slice(start, start + plan.questions)
        search = _Search(shards, questions[part], n_docs, width, plan, ids_of)
        found = search.run()
        scores[part], rows[part] = found.scores, found.rows
    return SearchResult(scores, rows)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How much is held at a time: questions, rows of a block in either pass, pairs in exact scoring."""

    questions: int
    rows: int
    second_rows: int
    pairs: int


def _plan(memory_bytes: int, questions: int, dimension: int, width: int) -> _Plan:
    """A quarter for the candidates, a quarter for exact scoring, half for blocks and their products."""
    quarter = memory_bytes // 4
    question_bytes = width * _CANDIDATE_BYTES
    pair_bytes = dimension * _PAIR_BYTES
    second_row_bytes = dimension * 4 + _UNSETTLED_AT_ONCE * 4 + _SURVIVOR_BYTES
    required = 4 * max(question_bytes, pair_bytes, -(-second_row_bytes // 2))
    if memory_bytes < required:
        raise UsageError(
            f"--memory_bytes {memory_bytes}: searching {dimension} dimensions with {width} candidates "
            f"a question takes at least {required} bytes, and is quick from about {256 * 2**20}"
        )
    at_once = max(1, min(questions, quarter // question_bytes))
    tile_row_bytes = 4 * min(at_once, _TILE_QUESTIONS)
    rows = 2 * quarter // (dimension * 4 + tile_row_bytes)
    if rows > _TILE_ROWS:
        rows = (2 * quarter - _TILE_ROWS * tile_row_bytes) // (dimension * 4)
    return _Plan(
        questions=at_once,
        rows=max(1, min(rows, _LARGEST_BLOCK)),
        second_rows=min(2 * quarter // second_row_bytes, _LARGEST_BLOCK),
        pairs=min(quarter // pair_bytes, _PAIRS_IN_CACHE),
    )


def _checked(questions: np.ndarray, dimension: int) -> np.ndarray:
    if questions.ndim != 2 or questions.shape[1] != dimension:
        raise ValueError(f"expected question vectors [B, {dimension}], got {list(questions.shape)}")
    questions = np.ascontiguousarray(questions, dtype=np.float32)
    finite = np.isfinite(questions).all(axis=1)
    if not finite.all():
        raise ValueError(f"the question vector of row {int(np.argmin(finite))} holds NaN or infinity")
    return questions


class _Search:
    """One group of questions over all shards."""

    def __init__(
        self,
        shards: Sequence[ShardVectors],
        questions: np.ndarray,
        n_docs: int,
        width: int,
        plan: _Plan,
        ids_of: IdsOf,
    ) -> None:
        self._shards = sorted(shards, key=lambda shard: shard.first_row)
        self._questions = questions
        self._n_docs = n_docs
        self._width = width
        self._plan = plan
        self._ids_of = ids_of
        self._error = product_error(questions, max(shard.info.max_norm for shard in shards))

    def run(self) -> SearchResult:
        proposed, rows = self._propose()
        exact = self._score(np.repeat(np.arange(len(rows)), self._width), rows.ravel()).reshape(rows.shape)
        result = rank(exact, rows, self._n_docs, self._ids_of)
        if self._width == sum(shard.rows for shard in self._shards):
            return result  # every row was a candidate
        floor = self._floor(result.scores[:, -1], np.arange(len(rows)))
        # every row left behind was proposed with at most the lowest score kept
        unsettled = np.flatnonzero(proposed.min(axis=1) >= floor)
        for start in range(0, len(unsettled), _UNSETTLED_AT_ONCE):
            self._settle(unsettled[start : start + _UNSETTLED_AT_ONCE], result)
        return result

    def _floor(self, kth_scores: np.ndarray, questions: np.ndarray) -> np.ndarray:
        """A row whose float32 product is below this (float64 [n]) has a score below `kth_scores`.

        A score that reaches the K-th exceeds, before rounding, the float32 number just below it.
        """
        below = np.nextafter(kth_scores, np.float32(-np.inf)).astype(np.float64)
        return np.where(np.isfinite(below), below - self._error[questions], -np.inf)

    def _propose(self) -> tuple[np.ndarray, np.ndarray]:
        """First pass: the best rows by float32 product, in no order.

        Returns:
          products float32 [B, width], rows int64 [B, width].
        """
        shape = (len(self._questions), self._width)
        products, rows = np.full(shape, -np.inf, dtype=np.float32), np.full(shape, -1, dtype=np.int64)
        # where products may overflow, any rows will do: the second pass then scores all of them
        questions = np.where(np.isinf(self._error)[:, None], np.float32(0), self._questions)
        for first_row, block in self._blocks(self._plan.rows):
            if len(questions):
                k = min(self._width, len(block))
                found, found_rows = faiss.knn(questions, block, k, metric=faiss.METRIC_INNER_PRODUCT)
                products = np.concatenate([products, found], axis=1)
                rows = np.concatenate([rows, found_rows + first_row], axis=1)
                kept = np.argpartition(products, -self._width, axis=1)[:, -self._width :]
                products = np.take_along_axis(products, kept, axis=1)
                rows = np.take_along_axis(rows, kept, axis=1)
        return products, rows

    def _settle(self, unsettled: np.ndarray, result: SearchResult) -> None:
        """Second pass: overwrites the rows `unsettled` (int64 [n]) of `result`."""
        questions = self._questions[unsettled]
        floors = self._floor(result.scores[unsettled, -1], unsettled)
        empty = SearchResult(np.empty((1, 0), dtype=np.float32), np.empty((1, 0), dtype=np.int64))
        best = [empty] * len(unsettled)
        for first_row, block in self._blocks(self._plan.second_rows):
            with np.errstate(over="ignore", invalid="ignore"):
                products = questions @ block.T
            for place, question in enumerate(unsettled):
                passed = first_row + np.flatnonzero(~(products[place] < floors[place]))  # NaN passes
                if not len(passed):
                    continue
                scores = self._score(np.full(len(passed), question), passed)
                found = SearchResult(scores[None], passed[None])
                best[place] = merge_top_k([best[place], found], self._n_docs, self._ids_of)
                if best[place].rows.shape[1] == self._n_docs:
                    floors[place] = self._floor(best[place].scores[:, -1], unsettled[place : place + 1])[0]
        for question, settled in zip(unsettled, best, strict=True):
            result.scores[question], result.rows[question] = settled.scores[0], settled.rows[0]

    def _score(self, questions: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Exact scores, float32 [n], of question numbers and rows (int64 [n] each)."""
        scores = np.empty(len(rows), dtype=np.float32)
        order = np.argsort(rows, kind="stable")  # the disk is read forwards
        first_rows = [shard.first_row for shard in self._shards]
        shard_numbers = np.searchsorted(first_rows, rows[order], side="right") - 1
        for number in np.unique(shard_numbers):
            in_shard = order[shard_numbers == number]
            for start in range(0, len(in_shard), self._plan.pairs):
                pairs = in_shard[start : start + self._plan.pairs]
                vectors = self._shards[number].take(rows[pairs])
                scores[pairs] = exact_scores(self._questions[questions[pairs]], vectors)
        return scores

    def _blocks(self, rows: int) -> Iterator[tuple[int, np.ndarray]]:
        """All vectors as float32 blocks, valid until the next: (index of the first row, [≤ rows, D])."""
        rows = min(rows, max(shard.rows for shard in self._shards))
        converted = np.empty((rows, self._questions.shape[1]), dtype=np.float32)
        for shard in self._shards:
            for first_row, stored in shard.blocks(rows):
                if stored.dtype == np.float32:
                    yield first_row, stored
                else:
                    block = converted[: len(stored)]
                    torch.from_numpy(block).copy_(torch.from_numpy(stored))  # ten times NumPy's speed
                    yield first_row, block
