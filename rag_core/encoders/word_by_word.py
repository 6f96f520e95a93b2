"""BERT's tokenizers, word by word from memory: the tokens of a text are those of its words in turn.

Nothing in such a tokenizer looks across a blank, so each word goes through the library once and is
looked up ever after. Words recur, so that is several times as fast as tokenizing whole texts, with the
same tokens; and a text is read only as far as its tokens will be used.
"""

import copy
import itertools
import json
import threading
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerBase

from rag_core.encoders.whole_texts import FIRST_CHARACTERS_A_TOKEN, MOST_CHARACTERS_A_TOKEN

# About 400,000 words, in some 100 MB.
_MOST_CHARACTERS_HELD = 3_000_000
_SPECIAL_TOKENS = {1: 2, 2: 3}  # of one sequence, of a pair


class WordByWord:
    """Texts, or pairs of them, to token ids; see `tokenization.Tokenize`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int):
        """Takes a tokenizer that `is_word_by_word` accepts."""
        self._words = _Words(tokenizer)
        self._start, self._end = tokenizer.cls_token_id, tokenizer.sep_token_id
        self._max_tokens = max_tokens

    def __call__(self, first: Sequence[str], second: Sequence[str] | None) -> list[np.ndarray]:
        """Token ids of each row, int64 [1 to max_tokens]."""
        first_tokens = self._tokens(first)
        if second is None:
            room = self._max_tokens - _SPECIAL_TOKENS[1]
            return [self._framed(tokens[:room]) for tokens in first_tokens]
        room = self._max_tokens - _SPECIAL_TOKENS[2]
        rows = []
        for row, (tokens, others) in enumerate(zip(first_tokens, self._tokens(second), strict=True)):
            if min(len(tokens), len(others)) > self._max_tokens:  # which is longer, only their ends tell
                tokens, others = self._look_up([self._start_of(first[row]), self._start_of(second[row])])
            kept, kept_others = _longest_first(len(tokens), len(others), room)
            rows.append(self._framed(tokens[:kept], others[:kept_others]))
        return rows

    def _framed(self, *sequences: np.ndarray) -> np.ndarray:
        """`[CLS] first [SEP]`, or `[CLS] first [SEP] second [SEP]`."""
        row = np.empty(1 + sum(len(tokens) + 1 for tokens in sequences), dtype=np.int64)
        row[0] = self._start
        end = 1
        for tokens in sequences:
            begin, end = end, end + len(tokens) + 1
            row[begin : end - 1] = tokens
            row[end - 1] = self._end
        return row

    def _tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of each text, or as many of the first as can matter: all that fit, and one more."""
        read = FIRST_CHARACTERS_A_TOKEN * self._max_tokens
        texts = [self._start_of(text) for text in texts]
        tokens = self._look_up([_whole_words(text, read) for text in texts])
        for row, text in enumerate(texts):
            if len(text) > read and len(tokens[row]) <= self._max_tokens:
                [tokens[row]] = self._look_up([text])
        return tokens

    def _start_of(self, text: str) -> str:
        return text[: MOST_CHARACTERS_A_TOKEN * self._max_tokens]

    def _look_up(self, texts: Sequence[str]) -> list[np.ndarray]:
        """All tokens of each text."""
        words = pc.split_pattern(pa.array(texts, pa.string()), " ")
        encoded = words.flatten().dictionary_encode()
        starts, sizes, tokens = self._words.look_up(encoded.dictionary.to_pylist())
        word = encoded.indices.to_numpy()
        ends = _bounds(sizes[word])  # of the words in all texts' tokens
        here = np.arange(ends[-1]) + np.repeat(starts[word] - ends[:-1], sizes[word])
        tokens = tokens[here]
        return [
            tokens[begin:end] for begin, end in itertools.pairwise(ends[words.offsets.to_numpy()].tolist())
        ]


class _Words:
    """The tokens of every word met so far, end to end."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._backend = copy.deepcopy(tokenizer.backend_tokenizer)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._learning = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._numbers: dict[str, int] = {}
        self._starts = np.zeros(1, dtype=np.int64)  # of each word in the tokens, and where the last one ends
        self._tokens = np.zeros(0, dtype=np.int32)
        self._held_characters = 0

    def look_up(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where each word's tokens begin, int64 [W], and how many they are, int64 [W]; and all tokens, int32."""
        with self._learning:
            if self._held_characters > _MOST_CHARACTERS_HELD:
                self._forget()  # common words are soon back
            numbers = list(map(self._numbers.get, words))
            if None in numbers:
                self._learn([word for word, number in zip(words, numbers, strict=True) if number is None])
                numbers = list(map(self._numbers.get, words))
            number = np.array(numbers, dtype=np.int64)
            starts = self._starts[number]
            return starts, self._starts[number + 1] - starts, self._tokens

    def _learn(self, words: Sequence[str]) -> None:
        """Puts words that are new through the library."""
        known = len(self._numbers)
        self._numbers.update(zip(words, range(known, known + len(words)), strict=True))
        pieces = [
            encoding.ids for encoding in self._backend.encode_batch_fast(words, add_special_tokens=False)
        ]
        sizes = np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces))
        self._starts = np.concatenate([self._starts, self._starts[-1] + np.cumsum(sizes)])
        tokens = np.fromiter(itertools.chain.from_iterable(pieces), dtype=np.int32, count=int(sizes.sum()))
        self._tokens = np.concatenate([self._tokens, tokens])
        self._held_characters += sum(map(len, words))


def _bounds(sizes: np.ndarray) -> np.ndarray:
    """0 and the running sums: where pieces of these sizes begin, and the last one ends."""
    return np.concatenate([[0], np.cumsum(sizes)])


def _whole_words(text: str, characters: int) -> str:
    """The start of a text, no word divided; the whole text where its first word is longer than that."""
    if len(text) <= characters:
        return text
    end = text.rfind(" ", 0, characters)
    return text if end < 0 else text[:end]


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of a pair are kept: tokens go one by one from the longer, as the library has it."""
    if first + second <= room:
        return first, second
    shorter = min(first, second)
    if 2 * shorter > room:
        shorter = room // 2
    kept = shorter, room - shorter
    return kept if first <= second else kept[::-1]


def is_word_by_word(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether `WordByWord` gives this tokenizer's tokens: BERT's, with no added token that has a blank."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or tokenizer.truncation_side != "right":
        return False
    parts = json.loads(backend.to_str())
    normalizer = parts["normalizer"] or {}
    normalizers = normalizer.get("normalizers", [normalizer])
    return (
        parts["model"]["type"] == "WordPiece"
        and {step.get("type") for step in normalizers} <= {"BertNormalizer", "Lowercase"}
        and (parts["pre_tokenizer"] or {}).get("type") == "BertPreTokenizer"
        and not any(_has_blank(token["content"]) for token in parts["added_tokens"])
        and _frames_as_bert(tokenizer)
    )


def _has_blank(text: str) -> bool:
    return any(character.isspace() for character in text)


def _frames_as_bert(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether sequences are framed as `[CLS] first [SEP] second [SEP]`."""
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    [one, other] = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a", "b"))
    return tokenizer("a")["input_ids"] == [start, *one, end] and tokenizer("a", "b")["input_ids"] == [
        start,
        *one,
        end,
        *other,
        end,
    ]
