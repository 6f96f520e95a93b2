"""Bulk search of an inverted file, list by list: each list is read and decoded once for all questions.

FAISS's own search goes question by question and reads a list as often as questions probe it. With
many questions a list's decoded vectors against all questions that probe it are one matrix product.
(4-bit fast-scan codes are FAISS's own affair: it scans those list by list already.)
"""

from typing import Any

import faiss
import numpy as np

from rag_core.mips.search_result import best_columns

# Below this many products of a list on average, the steps around a product cost more than it saves.
_WORTHWHILE_PRODUCTS = 65_536


_DECODABLE = (faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer, faiss.IndexIVFPQ)


def is_list_major(ivf: Any, questions: int, nprobe: int) -> bool:
    """Whether a search for so many questions is quicker list by list than question by question."""
    products = questions * min(nprobe, ivf.nlist) / ivf.nlist * ivf.ntotal / ivf.nlist
    return isinstance(ivf, _DECODABLE) and products >= _WORTHWHILE_PRODUCTS


def search_lists(
    ivf: Any, questions: np.ndarray, width: int, nprobe: int, gone: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The `width` best rows in the `nprobe` lists nearest to each question.

    Args:
      ivf: an IVF of vectors, scalar or product quantizer codes, as `factory.inverted_file` gives it.
      questions: float32 [B, d], transformed as the IVF's vectors are.
      width: rows to find for each question.
      nprobe: lists to look into for each question.
      gone: bool [rows], rows that are not to be found.

    Returns:
      products with the decoded vectors float32 [B, width] and rows int64 [B, width], in no order;
      −inf and −1 where the lists hold fewer rows.
    """
    products = np.full((len(questions), width), -np.inf, dtype=np.float32)
    rows = np.full((len(questions), width), -1, dtype=np.int64)
    _, probed = ivf.quantizer.search(questions, min(nprobe, ivf.nlist))
    order = np.argsort(probed, axis=None, kind="stable")
    numbers, starts = np.unique(probed.reshape(-1)[order], return_index=True)
    for number, pairs in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
        size = ivf.invlists.list_size(number) if number >= 0 else 0  # −1: fewer lists than asked for
        if not size:
            continue
        found_rows = faiss.rev_swig_ptr(ivf.invlists.get_ids(number), size).copy()
        asking = pairs // probed.shape[1]
        found = questions[asking] @ _decoded(ivf, number, size).T
        found[:, gone[found_rows]] = -np.inf
        found = np.concatenate([products[asking], found], axis=1)
        both = np.concatenate([rows[asking], np.broadcast_to(found_rows, (len(asking), size))], axis=1)
        products[asking], rows[asking] = best_columns(found, both, width)
    rows[np.isneginf(products)] = -1
    return products, rows


def _decoded(ivf: Any, number: int, size: int) -> np.ndarray:
    """The vectors of a list as its codes tell them, float32 [size, d]."""
    codes = ivf.invlists.get_codes(number)
    if isinstance(ivf, faiss.IndexIVFFlat):
        stored = faiss.rev_swig_ptr(codes, size * ivf.code_size).view(np.float32)
        return stored.reshape(size, ivf.d)
    lists = np.full(size, number, dtype=np.int64)
    vectors = np.empty((size, ivf.d), dtype=np.float32)
    ivf.decode_vectors(size, codes, faiss.swig_ptr(lists), faiss.swig_ptr(vectors))
    return vectors
