"""BM25 over an index's passages: retrieval by words, which the paper puts beside the trained retriever.

The paper's ablation (Lewis et al. 2020, section 4.5, table 6) takes BM25's passages and its scores as
the logits of p(z|x). The scoring is Lucene's, by bm25s: over the question's words w,

    Σ_w ln(1 + (N − n_w + ½) / (n_w + ½)) · f / (f + k1 (1 − b + b · length / mean length))

with N passages, n_w of them holding w, and f the occurrences of w in the passage.
"""

import functools
import logging
import os
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from rag_core.mips.search_result import IdsOf, SearchResult, rank

_WORD = r"(?u)\b\w+\b"


class Bm25:
    """The words of passages, ready to be searched; all of them in memory, 8 bytes a word of a passage."""

    def __init__(self, passages: Sequence[str], rows: np.ndarray, *, k1: float, b: float, ids_of: IdsOf):
        """Counts the words, in lower case; none is left out and none is stemmed.

        Args:
          passages: N texts.
          rows: what each is called in results, int64 [N].
          k1: how soon further occurrences of a word stop to count.
          b: how much a passage's length counts, 0 to 1.
          ids_of: passage ids of rows, which order passages of equal score.
        """
        self._rows = rows
        self._ids_of = ids_of
        self._bm25 = _library().BM25(method="lucene", k1=k1, b=b)
        self._bm25.index(_words(passages), show_progress=False)

    def search(self, questions: Sequence[str], n_docs: int) -> SearchResult:
        """The K best passages of each question that share a word with it: scores and rows [B, K].

        Ties are ordered by passage id. A question with fewer such passages has −1 in its last places.
        """
        scores = np.full((len(questions), n_docs), -np.inf, dtype=np.float32)
        rows = np.full((len(questions), n_docs), -1, dtype=np.int64)
        for number, words in enumerate(_words(questions)):
            found = self._search(words, n_docs)
            count = found.rows.shape[1]
            scores[number, :count], rows[number, :count] = found.scores[0], found.rows[0]
        return SearchResult(scores, rows)

    def _search(self, words: list[str], n_docs: int) -> SearchResult:
        """As a search of one question: [1, at most K]."""
        all_scores = self._bm25.get_scores_from_ids(self._bm25.get_tokens_ids(words))
        sharing = np.flatnonzero(all_scores > 0)
        scores = all_scores[sharing]
        if len(scores) > n_docs:  # and whatever ties with the last: ids decide
            least = np.partition(scores, -n_docs)[-n_docs]
            sharing = sharing[scores >= least]
        candidates = self._rows[sharing]
        return rank(all_scores[sharing][np.newaxis], candidates[np.newaxis], n_docs, self._ids_of)


def _words(texts: Sequence[str]) -> list[list[str]]:
    return _library().tokenize(
        list(texts), token_pattern=_WORD, stopwords=None, return_ids=False, show_progress=False
    )


@functools.cache
def _library() -> ModuleType:
    """bm25s, loaded when it is needed: where JAX is installed too, it starts JAX, which would take most of a GPU."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import bm25s

    # it sets its level to DEBUG, at which it tells each step
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    return bm25s
