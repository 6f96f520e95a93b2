"""Texts to token ids: once a text, without padding, and in bounded time however long it is."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from rag_core.encoders.whole_texts import tokenize_whole_texts
from rag_core.encoders.word_by_word import WordByWord, is_word_by_word

Tokenize = Callable[[Sequence[str], Sequence[str] | None], list[np.ndarray]]
"""Texts to token ids with special tokens, int64 arrays of 1 to the most tokens, a row each.

Where second texts are given, a row is the pair (first, second), and what exceeds the most tokens is taken
from the longer of the two (`longest_first`), as DPR and transformers do. An empty first text keeps its
separator: `[CLS] [SEP] text [SEP]`.

A long text is first read only as far as its tokens will fit, and the result is that of the whole text, with
one exception: what lies beyond 1,000 characters a token (256,000 characters for 256 tokens) is not read,
which matters only to a text whose words are longer than that on average.
"""


def tokenizing(tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Tokenize:
    """`Tokenize` by this tokenizer, for rows of at most `max_tokens`: the quickest that gives its tokens."""
    if is_word_by_word(tokenizer):
        return WordByWord(tokenizer, max_tokens)
    return functools.partial(tokenize_whole_texts, tokenizer, max_tokens=max_tokens)
