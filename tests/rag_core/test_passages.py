import re
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_core.passages import split_document
from rag_core.records import Document

WORDS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=40)
# a text is split a piece of this many characters at a time
PIECE = 4096


def document(text: str) -> Document:
    return Document("d", "Title", text, 7)


@settings(deadline=None, max_examples=200)
@given(WORDS, st.integers(1, 12))
def test_passages_partition_the_words(pieces, passage_words):
    text = " \n".join(pieces)
    passages = list(split_document(document(text), passage_words=passage_words))
    words = text.split()
    expected = [" ".join(words[i : i + passage_words]) for i in range(0, len(words), passage_words)]
    assert [passage.text for passage in passages] == expected
    assert [passage.passage_id for passage in passages] == [f"d#{n}" for n in range(len(expected))]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.sampled_from([1, 3, PIECE - 1, PIECE, PIECE + 1]),
                          st.sampled_from([1, 2, PIECE])), max_size=6))  # fmt: skip
def test_no_word_is_lost_or_cut_where_long_texts_are_split(lengths):
    text = "".join("x" * word + " " * space for word, space in lengths)
    passages = split_document(document(text), passage_words=1)
    assert [passage.text for passage in passages] == text.split()


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 40), st.integers(1, 12))
def test_wrap_fills_the_last_passage_from_the_start(number_of_words, passage_words):
    words = [f"w{n}" for n in range(number_of_words)]
    passages = list(
        split_document(document(" ".join(words)), passage_words=passage_words, last_passage="wrap")
    )
    got = [word for passage in passages for word in passage.text.split()]
    full = -(-number_of_words // passage_words) * passage_words
    # what lies beyond the end starts over at every multiple of the document's length
    in_last = number_of_words % passage_words or passage_words
    filling = [words[n % number_of_words] for n in range(passage_words - in_last)]
    assert got == words + filling
    assert len(got) == full


def test_what_a_passage_carries():
    passages = list(split_document(document("a b c d e"), passage_words=2))
    assert [(p.document_id, p.passage_number, p.title, p.text, p.position) for p in passages] == [
        ("d", 0, "Title", "a b", 7),
        ("d", 1, "Title", "c d", 7),
        ("d", 2, "Title", "e", 7),
    ]


def test_short_passages_are_dropped_and_numbers_stay():
    kept = list(split_document(document("a b c d e"), passage_words=2, min_words=2))
    assert [passage.passage_id for passage in kept] == ["d#0", "d#1"]
    assert (
        list(split_document(document("a b c d e"), passage_words=2, min_words=2, last_passage="wrap")) == kept
    )
    assert list(split_document(document("a b"), passage_words=0, min_words=3)) == []


def test_zero_keeps_the_document_as_it_is():
    text = "  first line\n\n second\tline "
    (passage,) = split_document(document(text), passage_words=0)
    assert (passage.passage_id, passage.text) == ("d#0", text)


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_no_words_no_passages(text):
    assert list(split_document(document(text))) == []


def test_one_word_of_ten_megabytes():
    word = "x" * 10_000_000
    (passage,) = split_document(document(f"  {word} "))
    assert passage.text == word


def test_memory_is_bounded_by_a_passage():
    text = "word " * 400_000  # a list of its words would take 3.2 MB for the pointers alone
    tracemalloc.start()
    count = sum(1 for _ in split_document(document(text)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 4_000
    assert peak < 200_000


def test_whitespace_is_what_str_split_takes_for_it():
    every = [chr(code) for code in range(0x3100) if chr(code).isspace()]
    assert [c for c in map(chr, range(0x3100)) if re.fullmatch(r"\s", c)] == every
    assert [p.text for p in split_document(document("a".join(every)), passage_words=1)] == ["a"] * (
        len(every) - 1
    )
