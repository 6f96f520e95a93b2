"""Approximate search: FAISS proposes candidates shard by shard, the stored vectors decide among them.

So the scores of an approximate index are those of the exact search, to the last bit; what it may miss
is a passage, and how often it does its manifest says (`price`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import faiss
import numpy as np

from rag_core.errors import UsageError
from rag_core.mips.codes import ShardCodes
from rag_core.mips.deletions import rows_within
from rag_core.mips.factory import hnsw_graph, inverted_file
from rag_core.mips.inverted_lists import is_list_major, search_lists
from rag_core.mips.rescoring import score_pairs, screen
from rag_core.mips.scores import checked_questions
from rag_core.mips.search_result import IdsOf, SearchResult, best_columns, no_result, rank
from rag_core.mips.vectors import ShardVectors

_SCREENED_SLACK = 4  # more than are asked for, since float32 products may be off by a rounding
_CANDIDATE_BYTES = 80  # of a candidate in the running selection and while shards are merged


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to look; more finds more and takes longer.

    Attributes:
      nprobe: inverted lists looked into for each question; matters to an IVF.
      ef_search: length of the candidate queue in a graph; matters to HNSW.
      refine_factor: candidates taken from FAISS for each document asked for; their stored vectors
        decide which are kept.
    """

    nprobe: int = 1
    ef_search: int = 16
    refine_factor: int = 1

    def to_json(self) -> dict[str, int]:
        return asdict(self)

    @classmethod
    def from_json(cls, entry: object, where: str) -> "Effort":
        """Reads a manifest's entry; `where` names it in the error.

        Raises:
          UsageError: it is not an object of positive whole numbers by these names.
        """
        fields = entry if isinstance(entry, Mapping) else {}
        if set(fields) != set(cls.__slots__) or not all(type(n) is int and n > 0 for n in fields.values()):
            raise UsageError(f"{where}: effort is expected to hold {list(cls.__slots__)}, got {entry!r:.200}")
        return cls(**fields)


def approximate_search(
    codes: Sequence[ShardCodes],
    vectors: Sequence[ShardVectors],
    questions: np.ndarray,
    n_docs: int,
    effort: Effort,
    *,
    memory_bytes: int,
    ids_of: IdsOf,
    gone: np.ndarray,
) -> SearchResult:
    """The best `n_docs` rows that the codes lead to, with exact scores, by (−score, passage id).

    Args:
      codes: shards of one training.
      vectors: the same shards' stored vectors.
      questions: float32 [B, D].
      n_docs: K.
      effort: how hard to look.
      memory_bytes: codes stay in memory from search to search where they fit into half of it; where
        not, one shard is in memory at a time. Questions are split so that candidates fit a quarter.
      ids_of: passage ids of rows; asked where scores tie.
      gone: int64, rows of the index that are not to be found, ascending.

    Returns:
      Row −1 with score −inf where a question's search led to fewer rows than asked for.

    Raises:
      ValueError: a question's vector is not finite or has another dimension, or `n_docs` < 1.
      UsageError: a shard's file is not the one that the manifest names.
    """
    questions = checked_questions(questions, vectors[0].info.dimension, n_docs)
    for shard in vectors:
        shard.prove()  # once a process
    live = sum(shard.rows for shard in vectors) - len(gone)
    n_docs = min(n_docs, live)
    if not live:  # every row is gone
        return no_result(len(questions))
    width = candidates(effort, n_docs, live)
    scores = np.empty((len(questions), n_docs), dtype=np.float32)
    rows = np.empty((len(questions), n_docs), dtype=np.int64)
    keep = sum(shard.bytes for shard in codes) <= memory_bytes // 2
    step = max(1, memory_bytes // 4 // (width * _CANDIDATE_BYTES))
    for start in range(0, len(questions), step):
        part = slice(start, start + step)
        proposed = _propose(codes, questions[part], width, effort, gone, keep)
        found = _decide(vectors, questions[part], proposed, n_docs, ids_of)
        scores[part], rows[part] = found.scores, found.rows
    return SearchResult(scores, rows)


def candidates(effort: Effort, n_docs: int, live: int) -> int:
    """How many of the live rows FAISS proposes for a question; a few more make up for the codes' order."""
    return min(live, max(n_docs * effort.refine_factor, n_docs + 8))


def search_codes(
    index: faiss.Index, questions: np.ndarray, width: int, effort: Effort, gone: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One FAISS index's best rows for each question.

    Args:
      index: a shard's.
      questions: float32 [B, D].
      width: rows to find.
      effort: how hard to look.
      gone: bool [rows], rows that are not to be found.

    Returns:
      approximate products float32 [B, width] and rows int64 [B, width], in no order; −inf and −1
      where fewer were found (FAISS's −1, never an index).
    """
    ivf, graph = inverted_file(index), hnsw_graph(index)
    if ivf is not None:
        ivf.nprobe = effort.nprobe
        if is_list_major(ivf, len(questions), effort.nprobe):
            return search_lists(ivf, _transformed(index, questions), width, effort.nprobe, gone)
    asked = min(index.ntotal, width + int(gone.sum() and 8 + 2 * width * gone.mean()))
    while True:
        if graph is not None:
            graph.efSearch = max(effort.ef_search, asked)
        products, rows = index.search(questions, asked)
        unusable = (rows < 0) | gone[rows]
        exhausted = (rows[:, -1] < 0) | ((~unusable).sum(axis=1) >= width)
        if asked == index.ntotal or exhausted.all():
            break
        asked = min(index.ntotal, 2 * asked)
    products[unusable], rows[unusable] = -np.inf, -1
    if asked < width:  # a shard with fewer rows
        spare = ((0, 0), (0, width - asked))
        return np.pad(products, spare, constant_values=-np.inf), np.pad(rows, spare, constant_values=-1)
    return best_columns(products, rows, width)


def _propose(
    codes: Sequence[ShardCodes],
    questions: np.ndarray,
    width: int,
    effort: Effort,
    gone: np.ndarray,
    keep: bool,
) -> np.ndarray:
    """The candidates of all shards: rows int64 [B, width], −1 where there are fewer."""
    products = np.empty((len(questions), 0), dtype=np.float32)
    rows = np.empty((len(questions), 0), dtype=np.int64)
    for shard in codes:
        hidden = np.zeros(shard.info.rows, dtype=bool)
        hidden[rows_within(gone, shard.first_row, shard.info.rows)] = True
        found, found_rows = search_codes(shard.load(keep=keep), questions, width, effort, hidden)
        found_rows = np.where(found_rows < 0, -1, found_rows + shard.first_row)
        products = np.concatenate([products, found], axis=1)
        rows = np.concatenate([rows, found_rows], axis=1)
        products, rows = best_columns(products, rows, width)
    return rows


def _decide(
    vectors: Sequence[ShardVectors],
    questions: np.ndarray,
    candidates: np.ndarray,
    n_docs: int,
    ids_of: IdsOf,
) -> SearchResult:
    """Ranks candidates (int64 [B, C]) by their exact scores."""
    slack = min(candidates.shape[1], n_docs + _SCREENED_SLACK)
    rows = screen(vectors, questions, candidates, slack)
    numbers, places = np.nonzero(rows >= 0)
    scores = np.full(rows.shape, -np.inf, dtype=np.float32)
    scores[numbers, places] = score_pairs(vectors, questions, numbers, rows[numbers, places])
    return rank(scores, rows, n_docs, ids_of)


def _transformed(index: faiss.Index, questions: np.ndarray) -> np.ndarray:
    """Questions as the IVF within an index takes them: float32 [B, d]."""
    outer: Any = faiss.downcast_index(index)
    return outer.apply_chain(questions) if isinstance(outer, faiss.IndexPreTransform) else questions
