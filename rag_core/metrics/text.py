"""Metrics of longer generated text: ROUGE-L, BLEU-1 and the share of distinct trigrams."""

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_core.metrics.bootstrap import Floats
from rag_core.metrics.tokens import word_tokens


def rouge_l(prediction: str, answers: Sequence[str]) -> float:
    """ROUGE-L F1 as `rouge_score` computes it, without stemming; the best gold answer counts.

    Its tokeniser keeps `a-z` and `0-9` in lower case and nothing else, so text in another script has
    no tokens and scores 0.
    """
    if not answers:
        return 0.0
    return float(_rouge_scorer().score_multi(answers, prediction)["rougeL"].fmeasure)


def bleu_1_statistics(prediction: str, answers: Sequence[str]) -> tuple[int, int, int]:
    """What one item adds to corpus BLEU-1: clipped unigram matches, its length, the reference length.

    Tokens are sacrebleu's default (`13a`, case kept). A match is clipped by the largest count in any
    gold answer; the reference length is that of the gold answer closest in length. Any number of
    gold answers an item will do. A missing prediction is an empty one: only its reference counts.
    """
    score = _bleu().sentence_score(prediction, list(answers))
    return score.counts[0], score.sys_len, score.ref_len


def bleu_1(sums: Floats) -> Floats:
    """Corpus BLEU-1 in [0, 1] from summed statistics.

    Args:
      sums: [r, 3], columns as `bleu_1_statistics` gives them.

    Returns:
      [r]: brevity penalty exp(min(0, 1 − reference length / length)) times unigram precision; 0
      where nothing was predicted.
    """
    matches, length, reference_length = sums.T
    some = np.maximum(length, 1.0)  # no division by 0: the precision is 0 there
    return np.exp(np.minimum(0.0, 1.0 - reference_length / some)) * matches / some


def trigram_keys(text: str) -> list[int]:
    """64-bit hashes of the text's trigrams, one for each place; the same in every process.

    Tokens are `word_tokens`: lower-cased words and punctuation marks.
    """
    tokens = word_tokens(text)
    return [
        int.from_bytes(hashlib.blake2b(" ".join(trigram).encode(), digest_size=8).digest(), "little")
        for trigram in zip(tokens, tokens[1:], tokens[2:], strict=False)
    ]


def distinct_trigram_influences(keys: NDArray[np.uint64], lengths: NDArray[np.int64]) -> tuple[float, Floats]:
    """The distinct-trigram ratio (paper's Table 5) and how much each answer moves it.

    The ratio is distinct trigrams over all trigrams, both counted over all generated answers
    together. Answers cannot be drawn with replacement to see its spread: an answer drawn twice adds
    no new trigram, so every resampled ratio would lie below the real one. Each answer's jackknife
    influence, (n − 1)(mean of the leave-one-out ratios − its own leave-one-out ratio), can: ratio
    plus influence has the jackknife's variance, which is not below the true one (Efron and Stein
    1981), and bootstrapping its mean gives the interval.

    Args:
      keys: [trigrams], hashes, answer after answer.
      lengths: [n], how many of them each answer has, all above 0.

    Returns:
      The ratio, and ratio + influence for each answer [n].
    """
    n = len(lengths)
    owners = np.repeat(np.arange(n), lengths)
    order = np.argsort(keys, kind="stable")  # stable: owners ascend among equal keys
    keys, owners = keys[order], owners[order]
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    last = np.append(first[1:], len(keys)) - 1
    ratio = len(first) / len(keys)
    if n == 1:
        return ratio, np.array([ratio])
    only_owner = owners[first][owners[first] == owners[last]]
    unique = np.bincount(only_owner, minlength=n)  # distinct trigrams that vanish with the answer
    left_out = (len(first) - unique) / (len(keys) - lengths)
    return ratio, ratio + (n - 1) * (left_out.mean() - left_out)


@functools.cache
def _rouge_scorer() -> Any:
    # imported on use: it brings nltk, seconds that most evaluations need not wait for
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"])


@functools.cache
def _bleu() -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(max_ngram_order=1, effective_order=True)  # effective_order: meant for single sentences
