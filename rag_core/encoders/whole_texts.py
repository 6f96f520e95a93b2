"""Texts to token ids by any tokenizer of the library, whole texts at a time."""

from collections.abc import Sequence

import numpy as np
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

# Tokenizers keep some 100 bytes a token (its string, offsets, word) until a call ends.
_ROWS_A_CALL = 256
# A tokenizer reads a text to its end before it truncates: 10 MB take 10 s and 2 GB. English has 4 to 5
# characters a token, so twice that is enough for nearly every text ...
FIRST_CHARACTERS_A_TOKEN = 10
# ... and beyond this, text is not read at all.
MOST_CHARACTERS_A_TOKEN = 1000
# A word that the cut divides may become other tokens. WordPiece makes one unknown token of words above
# 100 characters, so tokens that end this far before the cut are the whole text's.
_DIVIDED_WORD_CHARACTERS = 128


def tokenize_whole_texts(
    tokenizer: PreTrainedTokenizerBase,
    first: Sequence[str],
    second: Sequence[str] | None,
    *,
    max_tokens: int,
) -> list[np.ndarray]:
    """`tokenization.Tokenize`, given a tokenizer and the most tokens of a row.

    Byte-pair and unigram tokenizers may divide a run of more than 128 characters without a blank in
    another way where a long text is cut.
    """
    rows: list[np.ndarray] = []
    for start in range(0, len(first), _ROWS_A_CALL):
        chunk = slice(start, start + _ROWS_A_CALL)
        rows += _tokenize_chunk(
            tokenizer, first[chunk], None if second is None else second[chunk], max_tokens
        )
    return rows


def _tokenize_chunk(
    tokenizer: PreTrainedTokenizerBase, first: Sequence[str], second: Sequence[str] | None, max_tokens: int
) -> list[np.ndarray]:
    most = MOST_CHARACTERS_A_TOKEN * max_tokens
    titles = None if second is None else [title[:most] for title in first]
    texts = [text[:most] for text in (first if second is None else second)]

    read = FIRST_CHARACTERS_A_TOKEN * max_tokens
    ids, encodings = _call(tokenizer, titles, [text[:read] for text in texts], max_tokens)
    for row, text in enumerate(texts):
        if len(text) > read and not (
            encodings and _is_settled(encodings[row], titles is not None, read, max_tokens)
        ):
            [ids[row]], _ = _call(tokenizer, titles and [titles[row]], [text], max_tokens)
    return [np.asarray(row, dtype=np.int64) for row in ids]


def _call(
    tokenizer: PreTrainedTokenizerBase, titles: list[str] | None, texts: list[str], max_tokens: int
) -> tuple[list[list[int]], list[Encoding] | None]:
    encoded = tokenizer(
        *(segment for segment in (titles, texts) if segment is not None),
        truncation="longest_first",
        max_length=max_tokens,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    return encoded["input_ids"], encoded.encodings


def _is_settled(encoding: Encoding, is_pair: bool, read: int, max_tokens: int) -> bool:
    """Whether more text could not change these tokens.

    They fill the row; the text has more than half of it, so a longer text would leave the title as it is;
    and the last one lies clear of the cut.
    """
    ends = [
        end
        for (_, end), segment in zip(encoding.offsets, encoding.sequence_ids, strict=True)
        if segment == int(is_pair)
    ]
    return (
        len(encoding) == max_tokens
        and 2 * len(ends) > max_tokens
        and ends[-1] + _DIVIDED_WORD_CHARACTERS <= read
    )
