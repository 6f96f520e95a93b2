import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag_core.encoders.tokenization import tokenize
from tests.rag_core.tiny_encoders import SENTENCES, tiny_tokenizer

TOKENIZER = tiny_tokenizer()

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


@settings(deadline=None, max_examples=300)
@given(text=TEXTS, max_tokens=st.integers(8, 40))
@example(text="the capital " * 200 + "x" * 50, max_tokens=8)
@example(text="a" * 75 + " " + "b" * 300, max_tokens=8)  # the cut after 80 characters divides an unknown word
def test_a_text_that_is_read_in_part_gives_the_tokens_of_the_whole(text: str, max_tokens: int) -> None:
    [row] = tokenize(TOKENIZER, [text], None, max_tokens=max_tokens)
    assert row.tolist() == whole(text, max_tokens=max_tokens)


@settings(deadline=None, max_examples=300)
@given(title=TEXTS, text=TEXTS, max_tokens=st.integers(8, 40))
@example(title="the capital " * 40, text="city " * 400, max_tokens=16)  # both too long: an odd token to give
@example(title="the capital " * 400, text="city " * 40, max_tokens=16)
def test_a_pair_that_is_read_in_part_gives_the_tokens_of_the_whole(
    title: str, text: str, max_tokens: int
) -> None:
    [row] = tokenize(TOKENIZER, [title], [text], max_tokens=max_tokens)
    assert row.tolist() == whole(title, text, max_tokens=max_tokens)


def test_an_empty_title_keeps_its_separator() -> None:
    [row] = tokenize(TOKENIZER, [""], ["the city"], max_tokens=16)
    assert TOKENIZER.convert_ids_to_tokens(row) == ["[CLS]", "[SEP]", "the", "city", "[SEP]"]


def test_rows_beyond_one_call_keep_their_order() -> None:
    texts = [SENTENCES[number % len(SENTENCES)] + f" {number}" for number in range(700)]
    rows = tokenize(TOKENIZER, texts, None, max_tokens=32)
    assert [row.tolist() for row in rows] == [whole(text, max_tokens=32) for text in texts]


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
def test_ten_megabytes_take_bounded_time(text: str, tokens: list[str]) -> None:
    start = time.monotonic()
    [row] = tokenize(TOKENIZER, [text], None, max_tokens=256)
    # 0.4 s at most when measured; read to the end, such a text takes 7 to 14 s and 1 to 3 GB
    assert time.monotonic() - start < 4
    assert TOKENIZER.convert_ids_to_tokens(row) == tokens
