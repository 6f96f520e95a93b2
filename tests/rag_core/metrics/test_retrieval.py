import unicodedata

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_core.metrics.patterns import AnswerPatterns
from rag_core.metrics.retrieval import (
    AnswerRegexes,
    Reference,
    document_recall,
    first_hit_rank,
    has_answer,
    r_precision,
    reciprocal_rank,
)
from rag_core.metrics.retrieval import AnswerStrings as Strings
from rag_core.metrics.tokens import word_tokens


def test_tokens():
    assert word_tokens("Don't stop—it's 5%!") == ["don", "'", "t", "stop", "—", "it", "'", "s", "5", "%", "!"]
    assert word_tokens("caf\u00e9") == ["cafe\u0301"]  # the mark stays in the word
    assert word_tokens("a\u00a0b\tc\u200bd") == ["a", "b", "c", "d"]  # separators, control and format
    assert word_tokens(" \n") == []


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("The party began.", "art", False),  # inside a word
        ("A work of art.", "art", True),
        ("He met PRESIDENT Obama", "president obama", True),
        ("He met president, Obama", "president obama", False),  # punctuation is a token of its own
        ("in the U.S. today", "U.S.", True),
        ("in the US today", "U.S.", False),
        ("caf\u00e9 noir", "cafe", False),  # accents matter
        ("caf\u00e9 noir", "cafe\u0301", True),  # their spelling does not
        ("Wilhelm Conrad R\u00f6ntgen, of Germany", "wilhelm conrad r\u00d6ntgen", True),
        ("1,000 men", "1,000", True),
        ("1,000 men", "000", True),  # DPR's rule: the comma separates tokens
        ("21000 men", "1000", False),
        ("New  York\nCity", "new york city", True),
        ("York New", "New York", False),
        ("anything at all", "", False),  # an empty answer is in every passage under DPR's code
        ("anything at all", " \t", False),
        ("", "art", False),
        ("東京 は 首都", "東京", True),
    ],
)
def test_answer_in_passage(text, answer, found):
    assert has_answer(text, [answer]) is found


@settings(deadline=None, max_examples=300)
@given(
    st.text(alphabet="aAbé\u0301ΣΑ .,-\u00a0\x07İ", max_size=14),
    st.lists(st.text(alphabet="aAbéΣΑ .,", min_size=1, max_size=4), max_size=3),
)
def test_answer_in_passage_against_token_windows(text, answers):
    def tokens(string):
        found = regex.findall(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]", unicodedata.normalize("NFD", string))
        return [token.lower() for token in found]

    passage = tokens(text)
    expected = any(
        tokens(answer) and tokens(answer) == passage[start : start + len(tokens(answer))]
        for answer in answers
        for start in range(len(passage))
    )
    assert has_answer(text, answers) == expected


def test_patterns_are_searched_anywhere():
    finder = AnswerRegexes([r"\b2,?[4567][0-9][0-9]\b", "("], matcher := AnswerPatterns())
    assert finder.found_in("Jerusalem lies 2,500 feet up")
    assert not finder.found_in("Jerusalem lies 12500 feet up")
    assert matcher.invalid == {"("}


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("caf\u00e9s", True),
        ("cafe\u0301s", True),
        ("caf(e|\u00e9)s", True),
        ("caf[e\u00e9]s", False),
        ("cafe", True),
        ("caf\\\u00e9", False),  # \e and a mark: no such escape
    ],
)
def test_patterns_see_passages_in_nfd_as_dpr_does(pattern, found):
    assert AnswerRegexes([pattern], AnswerPatterns()).found_in("two caf\u00e9s") is found


def test_rank_of_the_first_hit():
    texts = ["no", "Paris it is", "Paris again"]
    assert first_hit_rank(texts, Strings(["paris"])) == 2
    assert first_hit_rank(texts, Strings(["rome"])) is None
    assert first_hit_rank([], Strings(["rome"])) is None
    assert [reciprocal_rank(rank) for rank in (1, 4, None)] == [1.0, 0.25, 0.0]


def test_document_recall_counts_passages_and_takes_the_best_set():
    ranked = ["a", "a", "b", "c"]
    assert document_recall(ranked, [frozenset("b")], 2) == 0.0
    assert document_recall(ranked, [frozenset("b")], 3) == 1.0
    assert document_recall(ranked, [frozenset("ax")], 1) == 0.5
    assert document_recall(ranked, [frozenset("bx"), frozenset("a")], 1) == 1.0
    assert document_recall([], [frozenset("a")], 5) == 0.0


def test_r_precision_counts_a_document_once():
    # R = 2: the first two different documents are a and b
    assert r_precision(["a", "a", "b", "c"], [frozenset("ab")]) == 1.0
    assert r_precision(["a", "a", "b", "c"], [frozenset("ac")]) == 0.5
    assert r_precision(["b", "a"], [frozenset("a")]) == 0.0
    assert r_precision(["a"], [frozenset("ab")]) == 0.5  # R is what is gold, not what was retrieved
    assert r_precision(["b", "a"], [frozenset("a"), frozenset("ab")]) == 1.0  # the best evidence set
    assert r_precision([], [frozenset("a")]) == 0.0


def test_evidence_sets_leave_empty_ones_out():
    reference = Reference(gold_document_ids=["1", "2", "1"], other_evidence=[[], ["3"]])
    assert reference.evidence_sets() == [frozenset({"1", "2"}), frozenset({"3"})]
    assert Reference(answers=["x"]).evidence_sets() == []
