"""Exact match and token F1 of short answers, with SQuAD's normalisation; the best gold answer counts."""

import re
import string
from collections import Counter
from collections.abc import Sequence

from rag_core.metrics.patterns import AnswerPatterns

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """SQuAD's normal form: lower case, no ASCII punctuation, no articles, single spaces.

    Punctuation is deleted, not replaced by a space (`U.S.` becomes `us`), and articles go after it.
    """
    text = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 where the prediction equals a gold answer in normal form, else 0.0."""
    normal = normalize_answer(prediction)
    return float(any(normal == normalize_answer(answer) for answer in answers))


def token_f1(prediction: str, answers: Sequence[str]) -> float:
    """The best harmonic mean of token precision and recall over the gold answers.

    Tokens are those of the normal form, as multisets. Where the prediction or the gold answer has no
    token left (the band "The The"), F1 is 1 if both have none, else 0, as in SQuAD 2.0: so F1 is
    never below exact match.
    """
    predicted = normalize_answer(prediction).split()
    return max((_f1(predicted, normalize_answer(answer).split()) for answer in answers), default=0.0)


def exact_match_pattern(prediction: str, patterns: Sequence[str], matcher: AnswerPatterns) -> float:
    """1.0 where the prediction begins with a match of a gold pattern, else 0.0 (CuratedTREC).

    The prediction is taken as it is, without SQuAD's normalisation: patterns spell out punctuation.
    """
    return float(any(matcher.match(pattern, prediction) for pattern in patterns))


def _f1(predicted: list[str], gold: list[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    shared = (Counter(predicted) & Counter(gold)).total()
    return 2.0 * shared / (len(predicted) + len(gold))  # = 2PR / (P + R), 0 where nothing is shared
