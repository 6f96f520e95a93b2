import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_core.metrics.answers import exact_match, exact_match_pattern, normalize_answer, token_f1
from rag_core.metrics.patterns import AnswerPatterns


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Beatles", "beatles"),
        ("  An   apple\ta day\n", "apple day"),
        ("U.S.", "us"),
        ("rock-and-roll", "rockandroll"),  # punctuation is deleted, no space comes for it
        ("The-Band", "theband"),  # so an article may stop being one
        ("theatre", "theatre"),
        ("a.", ""),
        ("The The", ""),
        ("Beyoncé", "beyoncé"),
        ("“quoted”", "“quoted”"),  # only ASCII punctuation goes
        ("1,000", "1000"),
        ("", ""),
    ],
)
def test_normal_form(text, normal):
    assert normalize_answer(text) == normal


def test_exact_match_takes_the_best_gold_answer():
    assert exact_match("the Eiffel Tower!", ["Paris", "Eiffel tower"]) == 1.0
    assert exact_match("Eiffel", ["Paris", "Eiffel tower"]) == 0.0
    assert exact_match("Paris", []) == 0.0


def test_f1_by_hand():
    # shared {big, cat}: precision 2/3, recall 2/2
    assert token_f1("big black cat", ["the big cat"]) == pytest.approx(0.8)
    # multisets: one of the two "ha" is shared
    assert token_f1("ha ha", ["ha"]) == pytest.approx(2 / 3)
    assert token_f1("dog", ["cat", "hot dog"]) == pytest.approx(2 / 3)
    assert token_f1("dog", ["cat"]) == 0.0
    assert token_f1("dog", []) == 0.0


def test_f1_without_tokens_follows_exact_match():
    assert token_f1("The The", ["the"]) == 1.0
    assert token_f1("the", ["cat"]) == 0.0
    assert token_f1("cat", ["the"]) == 0.0


texts = st.text(alphabet="ab .,theTé", max_size=12)


@settings(deadline=None, max_examples=200)
@given(texts, st.lists(texts, min_size=1, max_size=3))
def test_f1_against_precision_and_recall(prediction, answers):
    def f1(gold):
        left = normalize_answer(gold).split()
        tokens, total = normalize_answer(prediction).split(), len(left)
        if not tokens or not left:
            return float(tokens == left)
        shared = 0
        for token in tokens:
            if token in left:
                left.remove(token)
                shared += 1
        if shared == 0:
            return 0.0
        precision, recall = shared / len(tokens), shared / total
        return 2 * precision * recall / (precision + recall)

    assert token_f1(prediction, answers) == pytest.approx(max(map(f1, answers)), abs=1e-12)
    assert token_f1(prediction, answers) >= exact_match(prediction, answers)


def test_patterns_match_predictions_from_their_start_without_regard_to_case():
    matcher = AnswerPatterns()
    height = [r"20\s?,?\s?320\s?f(ee|oo)t|6,194-meter"]
    assert exact_match_pattern("20,320 FEET high", height, matcher) == 1.0
    assert exact_match_pattern("  20,320 foot", height, matcher) == 1.0
    assert exact_match_pattern("about 20,320 feet", height, matcher) == 0.0
    assert exact_match_pattern("Sweden", ["Norway", "sweden"], matcher) == 1.0
    assert exact_match_pattern("Zo\u00e9", ["zo[e\u00e9]$"], matcher) == 1.0
    assert not matcher.invalid
    assert not matcher.timed_out


@pytest.mark.parametrize("pattern", ["(", "*a", "[a-", r"\p{Nonsense}", "a{99999999999999}", "(" * 5000])
def test_invalid_pattern_is_counted_not_raised(pattern):
    matcher = AnswerPatterns()
    assert exact_match_pattern("a", [pattern], matcher) == 0.0
    assert exact_match_pattern("a", [pattern, "a"], matcher) == 1.0
    assert matcher.invalid == {pattern}


def test_catastrophic_pattern_costs_its_timeout_once():
    matcher = AnswerPatterns(timeout_s=0.2)
    start = time.process_time()
    hits = [matcher.search("(a|aa)+$", "a" * 60 + "!") for _ in range(50)]
    assert time.process_time() - start < 2.0  # 50 times 0.2 s without setting it aside
    assert not any(hits)
    assert matcher.timed_out == {"(a|aa)+$"}
    assert matcher.search("a+!", "a" * 60 + "!")


def test_merged_patterns_are_set_aside_in_both():
    first, second = AnswerPatterns(), AnswerPatterns()
    second.match("(", "a")
    first.merge(second)
    assert first.invalid == {"("}
