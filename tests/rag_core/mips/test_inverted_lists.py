"""List-major search against FAISS's own, question by question, on the same inverted file."""

import functools

import faiss
import numpy as np
import pytest

from rag_core.mips.factory import Factory, inverted_file
from rag_core.mips.inverted_lists import is_list_major, search_lists

RNG = np.random.default_rng(0)
ROWS = 1_500
VECTORS = RNG.standard_normal((ROWS, 32)).astype(np.float32)
QUESTIONS = RNG.standard_normal((50, 32)).astype(np.float32)


@functools.cache
def filled(factory: str):
    index = Factory.parse(factory, 32).empty()
    index.train(VECTORS)
    index.add(VECTORS)
    return index, inverted_file(index)


@pytest.mark.parametrize(
    "factory", ["IVF16,Flat", "IVF16_HNSW8,Flat", "IVF16,SQ8", "IVF16,SQfp16", "IVF16,SQ4", "IVF16,PQ16x4"]
)
@pytest.mark.parametrize("nprobe", [1, 5, 16, 100])
def test_finds_what_faiss_finds(factory, nprobe) -> None:
    index, ivf = filled(factory)
    ivf.nprobe = nprobe
    expected_products, expected = index.search(QUESTIONS, 20)
    products, rows = search_lists(ivf, QUESTIONS, 20, nprobe, np.zeros(ROWS, dtype=bool))
    order = np.argsort(-products, axis=1)
    np.testing.assert_allclose(np.take_along_axis(products, order, axis=1), expected_products, rtol=1e-5)
    same = [set(a) == set(b) for a, b in zip(rows, expected, strict=True)]
    assert np.mean(same) > 0.95  # the last place may go to either of two rows that round alike


def test_each_list_is_read_once_for_all_questions(monkeypatch) -> None:
    _, ivf = filled("IVF16,SQ8")
    read: list[int] = []
    decode = faiss.IndexIVFScalarQuantizer.decode_vectors

    def count(self, size, codes, lists, vectors):
        read.append(int(faiss.rev_swig_ptr(lists, 1)[0]))
        return decode(self, size, codes, lists, vectors)

    monkeypatch.setattr(faiss.IndexIVFScalarQuantizer, "decode_vectors", count)
    search_lists(ivf, QUESTIONS, 20, 8, np.zeros(ROWS, dtype=bool))
    assert len(read) == len(set(read)) == 16


def test_rows_that_are_gone_leave_their_places_to_others() -> None:
    _, ivf = filled("IVF16,Flat")
    gone = np.zeros(ROWS, dtype=bool)
    gone[::2] = True
    _, rows = search_lists(ivf, QUESTIONS, 20, 16, gone)
    expected = np.argsort(-(QUESTIONS @ VECTORS[1::2].T), axis=1)[:, :20] * 2 + 1
    assert [set(row) for row in rows] == [set(row) for row in expected]


def test_few_rows_leave_places_empty() -> None:
    index = Factory.parse("IVF2,Flat", 32).empty()
    index.train(VECTORS)
    index.add(VECTORS[:3])
    products, rows = search_lists(inverted_file(index), QUESTIONS, 5, 2, np.zeros(3, dtype=bool))
    assert (np.sort(rows, axis=1) == [-1, -1, 0, 1, 2]).all()
    assert np.isneginf(products[rows < 0]).all()


def test_few_questions_and_fast_scan_codes_are_left_to_faiss() -> None:
    _, ivf = filled("IVF16,Flat")
    assert not is_list_major(ivf, 50, 4)
    assert is_list_major(ivf, 50_000, 4)
    _, fast = filled("IVF16,PQ16x4fs")
    assert not is_list_major(fast, 50_000, 4)
