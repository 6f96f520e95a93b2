"""Exact maximum inner product search over vectors on disk, in a stated amount of memory.

The float32 matrix product is quick and slightly wrong, so it only proposes. First pass: every block
of vectors against all questions (`products`), keeping a few more rows than asked for each question,
whose exact scores are computed as they enter. A question is settled where no row left behind can
reach its K-th score, by the bound of `scores.product_error`. The others (many equal or nearly equal
vectors) take a second pass, in which every row that could reach the K-th score is scored exactly. So
the result is the same for any block size, number of shards and split of questions.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rag_core.errors import UsageError
from rag_core.mips.deletions import NO_ROWS, rows_within
from rag_core.mips.products import (
    PRODUCT_BYTES,
    TAKEN_BYTES,
    TILE_QUESTIONS,
    TILE_ROWS,
    Asked,
    DeviceProducts,
    HostProducts,
    Products,
    as_float32,
)
from rag_core.mips.rescoring import PAIRS_IN_CACHE, score_pairs
from rag_core.mips.scores import checked_questions, product_error
from rag_core.mips.search_result import IdsOf, SearchResult, merge_top_k, no_result, rank
from rag_core.mips.vectors import ShardVectors

# Bytes for each candidate: product, exact score and row as they are held, and what ranking them takes.
_CANDIDATE_BYTES = 80
# Bytes for each component of a pair in exact scoring: stored, float32 and two float64 copies.
_PAIR_BYTES = 24
# The second pass: questions that share a block's conversion, and bytes for each row of the block that
# passes for one of them: its place, exact score and passage id.
_UNSETTLED_AT_ONCE = 16
_SURVIVOR_BYTES = 256

CPU = torch.device("cpu")


def exact_search(
    shards: Sequence[ShardVectors],
    questions: np.ndarray,
    n_docs: int,
    *,
    memory_bytes: int,
    ids_of: IdsOf,
    gone: np.ndarray = NO_ROWS,
    device: torch.device = CPU,
) -> SearchResult:
    """The `n_docs` best rows of `shards` for each question, by (−score, passage id).

    Neither threads nor the device of the first pass change the result.

    Args:
      shards: any shards of one index.
      questions: float32 [B, D].
      n_docs: K; all rows are returned where the shards have fewer.
      memory_bytes: for everything allocated here, apart from `questions`, the result and the
        operating system's cache of mapped files. Where it does not hold all questions' candidates,
        the questions are split and the vectors are read several times.
      ids_of: passage ids of rows; asked where scores tie.
      gone: int64, rows of the index that are not to be found, ascending.
      device: where the first pass multiplies. Blocks are copied to a device, or stay there from an
        earlier search where they fit (`ShardVectors.blocks_on`).

    Raises:
      ValueError: a question's vector is not finite or has another dimension, or `n_docs` < 1.
      UsageError: a shard's file is not the one the manifest names, or `memory_bytes` is too small.
    """
    dimension = shards[0].info.dimension
    questions = checked_questions(questions, dimension, n_docs)
    total = _live_rows(shards, gone)
    n_docs = min(n_docs, total)
    if not total:  # every row is gone
        for shard in shards:
            shard.prove()
        return no_result(len(questions))
    # more where K is larger, as scores lie closer together further down
    width = min(total, n_docs + 8 + n_docs // 8)
    plan = _plan(memory_bytes, len(questions), dimension, width)
    scores = np.empty((len(questions), n_docs), dtype=np.float32)
    rows = np.empty((len(questions), n_docs), dtype=np.int64)
    # without questions the files are still proved
    for start in range(0, max(1, len(questions)), plan.questions):
        part = slice(start, start + plan.questions)
        search = _Search(shards, questions[part], n_docs, width, plan, ids_of, gone, device)
        found = search.run()
        scores[part], rows[part] = found.scores, found.rows
    return SearchResult(scores, rows)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How much is held at a time: questions, a tile of products, rows of the second pass, exact pairs."""

    questions: int
    tile_questions: int
    rows: int
    second_rows: int
    pairs: int


def _plan(memory_bytes: int, questions: int, dimension: int, width: int) -> _Plan:
    """A quarter for the candidates, a quarter for exact scoring, half for blocks and their products."""
    quarter = memory_bytes // 4
    question_bytes = width * _CANDIDATE_BYTES
    pair_bytes = dimension * _PAIR_BYTES
    second_row_bytes = dimension * 4 + _UNSETTLED_AT_ONCE * 4 + _SURVIVOR_BYTES
    least_tile_bytes = width * TAKEN_BYTES + dimension * 4 + PRODUCT_BYTES
    required = 4 * max(question_bytes, pair_bytes, -(-max(least_tile_bytes, second_row_bytes) // 2))
    if memory_bytes < required:
        raise UsageError(
            f"--memory_bytes {memory_bytes}: searching {dimension} dimensions with {width} candidates "
            f"a question takes at least {required} bytes, and is quick from about {256 * 2**20}"
        )
    at_once = max(1, min(questions, quarter // question_bytes))
    # a tile about as high as it is wide
    most = min(math.isqrt(quarter // PRODUCT_BYTES), quarter // (width * TAKEN_BYTES))
    tile_questions = max(1, min(at_once, TILE_QUESTIONS, most))
    row_bytes = dimension * 4 + tile_questions * PRODUCT_BYTES
    rows = (2 * quarter - tile_questions * width * TAKEN_BYTES) // row_bytes
    return _Plan(
        questions=at_once,
        tile_questions=tile_questions,
        rows=max(1, min(rows, TILE_ROWS)),
        second_rows=min(2 * quarter // second_row_bytes, TILE_ROWS),
        pairs=min(quarter // pair_bytes, PAIRS_IN_CACHE),
    )


def _live_rows(shards: Sequence[ShardVectors], gone: np.ndarray) -> int:
    return sum(shard.rows - rows_within(gone, shard.first_row, shard.rows).size for shard in shards)


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
        gone: np.ndarray,
        device: torch.device,
    ) -> None:
        self._shards = sorted(shards, key=lambda shard: shard.first_row)
        self._questions = questions
        self._n_docs = n_docs
        self._width = width
        self._plan = plan
        self._ids_of = ids_of
        self._gone = gone
        self._device = device
        self._error = product_error(questions, max(shard.info.max_norm for shard in shards))

    def run(self) -> SearchResult:
        proposed, exact, rows = self._propose()
        result = rank(exact, rows, self._n_docs, self._ids_of)
        if self._width == _live_rows(self._shards, self._gone):
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

    def _propose(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First pass: the best rows by float32 product, as `Products.best` gives them."""
        overflows = np.isinf(self._error)
        # where products may overflow, any rows will do: the second pass then scores all of them
        factors = (
            np.where(overflows[:, None], np.float32(0), self._questions)
            if overflows.any()
            else self._questions
        )
        asked = Asked(self._questions, factors, self._width)
        plan, rows = self._plan, self._block_rows(self._plan.rows)
        products: Products
        if self._device.type == "cpu":
            products = HostProducts(asked, plan.tile_questions, rows, plan.pairs)
        else:
            products = DeviceProducts(asked, plan.tile_questions, self._device, plan.pairs)
        for shard in self._shards:
            for first_row, block in shard.blocks_on(self._device, rows):
                products.add(first_row, block, rows_within(self._gone, first_row, len(block)))
        return products.best()

    def _settle(self, unsettled: np.ndarray, result: SearchResult) -> None:
        """Second pass: overwrites the rows `unsettled` (int64 [n]) of `result`."""
        questions = self._questions[unsettled]
        floors = self._floor(result.scores[unsettled, -1], unsettled)
        best = [no_result(1)] * len(unsettled)
        for first_row, block in self._blocks(self._plan.second_rows):
            with np.errstate(over="ignore", invalid="ignore"):
                products = questions @ block.T
            here = np.ones(len(block), dtype=bool)
            here[rows_within(self._gone, first_row, len(block))] = False
            for place, question in enumerate(unsettled):
                passed = first_row + np.flatnonzero(here & ~(products[place] < floors[place]))  # NaN passes
                if not len(passed):
                    continue
                scores = self._score(np.full(len(passed), question), passed)
                found = SearchResult(scores[None], passed[None])
                best[place] = merge_top_k([best[place], found], self._n_docs, self._ids_of)
                if best[place].rows.shape[1] == self._n_docs:
                    floors[place] = self._floor(best[place].scores[:, -1], unsettled[place : place + 1])[0]
        for question, settled in zip(unsettled, best, strict=True):
            result.scores[question], result.rows[question] = settled.scores[0], settled.rows[0]

    def _score(self, numbers: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Exact scores, float32 [n], of question numbers and rows (int64 [n] each)."""
        return score_pairs(self._shards, self._questions, numbers, rows, self._plan.pairs)

    def _block_rows(self, rows: int) -> int:
        """The rows of the largest block where at most `rows` are wanted."""
        return min(rows, max(shard.rows for shard in self._shards))

    def _blocks(self, rows: int) -> Iterator[tuple[int, np.ndarray]]:
        """All vectors as float32 blocks, valid until the next: (index of the first row, [≤ rows, D])."""
        rows = self._block_rows(rows)
        converted = np.empty((rows, self._questions.shape[1]), dtype=np.float32)
        for shard in self._shards:
            for first_row, stored in shard.blocks(rows):
                yield first_row, as_float32(stored, converted)
