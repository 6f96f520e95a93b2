"""Factory strings: what is refused and why, and how many vectors training takes."""

import numpy as np
import pytest

from rag_core.errors import UsageError
from rag_core.mips.codes import sample_rows, train
from rag_core.mips.factory import Factory, hnsw_graph, inverted_file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "FAISS cannot make it for inner products of 64 dimensions"),
        ("IVF16,PQ13", "FAISS cannot make it"),
        ("LSH", "FAISS cannot make it"),
        ("HNSW16,PQ16", "does not search by inner product"),  # FAISS drops the metric on the way
        ("IDMap,Flat", "leave IDMap out"),
        ("IVF16,PQ16,Refine(SQ8)", "end it in RFlat"),
        ("IVF16,RFlat,PQ16", "end it in RFlat"),
    ],
)
def test_what_cannot_be_made_is_refused(text, message) -> None:
    with pytest.raises(UsageError, match=f"--factory .*{message.replace('(', '.')}"):
        Factory.parse(text, 64)


@pytest.mark.parametrize(
    ("text", "required"),
    [
        ("Flat", 0),
        ("HNSW32", 0),
        ("SQfp16", 0),
        ("SQ8", 1_000),
        ("IVF64,Flat", 39 * 64),
        ("IVF64,PQ16x4fs,RFlat", 39 * 64),
        ("PQ16x4fs", 39 * 16),
        ("PQ16", 39 * 256),
        ("OPQ16,IVF64,PQ16x4fs", 39 * 256),
        ("IVF4096,PQ16,RFlat", 39 * 4096),
    ],
)
def test_training_rows_are_39_a_centroid(text, required) -> None:
    factory = Factory.parse(text, 64)
    assert factory.train_rows_required() == required
    assert factory.train_rows_wanted() >= required


def test_a_sample_too_small_says_how_many_rows_are_needed() -> None:
    with pytest.raises(UsageError, match=r"IVF64,Flat: needs at least 2,496 vectors to train on, got 2,495"):
        train(Factory.parse("IVF64,Flat", 8), np.zeros((2_495, 8), np.float32))


def test_refining_is_from_the_stored_vectors_and_not_faisss_affair() -> None:
    plain, refined = Factory.parse("IVF16,PQ16,RFlat", 64).empty(), Factory.parse("IVF16,PQ16", 64).empty()
    assert type(plain) is type(refined)
    assert Factory.parse("IVF16,PQ16,RFlat", 64).refines
    assert not Factory.parse("IVF16,PQ16", 64).refines


def test_the_parts_of_an_index_are_found_within_transforms() -> None:
    assert inverted_file(Factory.parse("OPQ16,IVF16,PQ16", 64).empty()).nlist == 16
    assert inverted_file(Factory.parse("SQ8", 64).empty()) is None
    assert hnsw_graph(Factory.parse("PCA32,HNSW16", 64).empty()) is not None
    assert hnsw_graph(Factory.parse("IVF16_HNSW8,Flat", 64).empty()) is None


def test_a_sample_is_drawn_over_all_rows_without_repeats() -> None:
    rows = sample_rows(10_000, 1_000)
    assert len(rows) == len(np.unique(rows)) == 1_000
    assert (np.diff(rows) > 0).all()
    assert np.histogram(rows, bins=10, range=(0, 10_000))[0].min() > 60  # from every tenth
    assert sample_rows(5, 9).tolist() == [0, 1, 2, 3, 4]
