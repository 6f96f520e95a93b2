import functools
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

from rag_core.encoders.tokenization import Tokenize, tokenizing
from rag_core.encoders.whole_texts import tokenize_whole_texts
from rag_core.encoders.word_by_word import WordByWord, is_word_by_word
from tests.rag_core.tiny_encoders import SENTENCES, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
WAYS: dict[str, Callable[[int], Tokenize]] = {
    "whole texts": lambda most: functools.partial(tokenize_whole_texts, TOKENIZER, max_tokens=most),
    "word by word": lambda most: WordByWord(TOKENIZER, most),
}

# Blanks, words known and unknown, words around WordPiece's limit of 100 characters, letters without blanks
# between them, marks that lower-casing and accent stripping change.
WORDS = st.sampled_from(
    [
        *SENTENCES[0].split(),
        "seventeen",
        "x" * 99,
        "y" * 101,
        "z" * 300,
        "漢字",
        "Ünïcode",
        "é",
        "-",
        ".",
        "  ",
        "\n",
    ]
)
TEXTS = st.lists(WORDS, max_size=120).map(" ".join) | st.lists(WORDS, max_size=120).map("".join)


def whole(*segments: str, max_tokens: int) -> list[int]:
    """Oracle: the tokenizer reads the texts to their ends."""
    [row] = TOKENIZER(
        *([segment] for segment in segments), truncation="longest_first", max_length=max_tokens
    )["input_ids"]
    return row


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@settings(deadline=None, max_examples=100)
@given(text=TEXTS, max_tokens=st.integers(8, 40))
@example(text="the capital " * 200 + "x" * 50, max_tokens=8)
@example(text="a" * 75 + " " + "b" * 300, max_tokens=8)  # the cut after 80 characters divides an unknown word
def test_a_text_that_is_read_in_part_gives_the_tokens_of_the_whole(
    way: Callable[[int], Tokenize], text: str, max_tokens: int
) -> None:
    [row] = way(max_tokens)([text], None)
    assert row.tolist() == whole(text, max_tokens=max_tokens)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@settings(deadline=None, max_examples=100)
@given(title=TEXTS, text=TEXTS, max_tokens=st.integers(8, 40))
@example(title="the capital " * 40, text="city " * 400, max_tokens=16)  # both too long: an odd token to give
@example(title="the capital " * 400, text="city " * 40, max_tokens=16)
def test_a_pair_that_is_read_in_part_gives_the_tokens_of_the_whole(
    way: Callable[[int], Tokenize], title: str, text: str, max_tokens: int
) -> None:
    [row] = way(max_tokens)([title], [text])
    assert row.tolist() == whole(title, text, max_tokens=max_tokens)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_an_empty_title_keeps_its_separator(way: Callable[[int], Tokenize]) -> None:
    [row] = way(16)([""], ["the city"])
    assert TOKENIZER.convert_ids_to_tokens(row) == ["[CLS]", "[SEP]", "the", "city", "[SEP]"]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_rows_beyond_one_call_keep_their_order(way: Callable[[int], Tokenize]) -> None:
    texts = [SENTENCES[number % len(SENTENCES)] + f" {number}" for number in range(700)]
    rows = way(32)(texts, None)
    assert [row.tolist() for row in rows] == [whole(text, max_tokens=32) for text in texts]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("x" * 10_000_000, ["[CLS]", "[UNK]", "[SEP]"]),
        ("city " * 2_000_000, ["[CLS]", *["city"] * 254, "[SEP]"]),
        ("漢" * 3_000_000, ["[CLS]", *["[UNK]"] * 254, "[SEP]"]),
        (" " * 10_000_000, ["[CLS]", "[SEP]"]),
    ],
    ids=["one word", "words", "no blanks", "blanks"],
)
def test_ten_megabytes_take_bounded_time(
    way: Callable[[int], Tokenize], text: str, tokens: list[str]
) -> None:
    start = time.monotonic()
    [row] = way(256)([text], None)
    # 0.4 s at most when measured; read to the end, such a text takes 7 to 14 s and 1 to 3 GB
    assert time.monotonic() - start < 4
    assert TOKENIZER.convert_ids_to_tokens(row) == tokens


def test_words_met_before_and_those_forgotten_give_the_same_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rag_core.encoders.word_by_word._MOST_CHARACTERS_HELD", 20)
    tokenize = WordByWord(TOKENIZER, 32)
    for text in (*SENTENCES, *SENTENCES):
        [row] = tokenize([text], None)
        assert row.tolist() == whole(text, max_tokens=32)


def test_special_tokens_in_a_text_are_read_as_the_library_reads_them() -> None:
    text = "the[SEP]city [MASK] of [CLS]"
    [row] = WordByWord(TOKENIZER, 32)([text], None)
    assert row.tolist() == whole(text, max_tokens=32)


def test_only_tokenizers_that_look_at_words_alone_are_taken_word_by_word() -> None:
    assert isinstance(tokenizing(TOKENIZER, 16), WordByWord)
    with_blank = tiny_tokenizer()
    with_blank.add_tokens(["new york"])
    assert not is_word_by_word(with_blank)
    from_the_left = tiny_tokenizer()
    from_the_left.truncation_side = "left"
    assert not is_word_by_word(from_the_left)
    byte_pairs = tiny_tokenizer()
    byte_pairs.backend_tokenizer.pre_tokenizer = ByteLevel()
    assert not is_word_by_word(byte_pairs)
