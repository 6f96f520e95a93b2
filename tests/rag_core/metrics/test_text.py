import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from rag_core.metrics.bootstrap import Bootstrap
from rag_core.metrics.tallies import Bleu1Tally, DistinctTrigramsTally
from rag_core.metrics.text import bleu_1, bleu_1_statistics, rouge_l, trigram_keys

words = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=7)


def longest_common_subsequence(first, second):
    """By trying every subsequence of the first."""
    for size in range(len(first), 0, -1):
        for chosen in itertools.combinations(first, size):
            rest = iter(second)
            if all(token in rest for token in chosen):
                return size
    return 0


def test_rouge_l_by_hand():
    # common subsequence "police the gunman" 3 of 4 and of 4 tokens
    assert rouge_l("police ended the gunman", ["police kill the gunman"]) == pytest.approx(0.75)
    assert rouge_l("Police, the GUNMAN!", ["x", "police kill the gunman"]) == pytest.approx(6 / 7)
    assert rouge_l("cats", ["cat"]) == 0.0  # no stemming
    assert rouge_l("", ["cat"]) == 0.0
    assert rouge_l("cat", []) == 0.0


@settings(deadline=None, max_examples=100)
@given(words, st.lists(words.filter(bool), min_size=1, max_size=3))
def test_rouge_l_against_enumeration(prediction, answers):
    def f1(gold):
        common = longest_common_subsequence(prediction, gold)
        return 2 * common / (len(prediction) + len(gold))

    score = rouge_l(" ".join(prediction), [" ".join(gold) for gold in answers])
    assert score == pytest.approx(max(map(f1, answers)), abs=1e-12)


def test_bleu_1_statistics_by_hand():
    # "the" is clipped at 2, its largest count in one reference; lengths 6 and 5 are closest to 7
    assert bleu_1_statistics(
        "the the the the the the the", ["the cat is on the mat", "a cat on the mat"]
    ) == (
        2,
        7,
        6,
    )
    assert bleu_1_statistics("", ["one two three", "one"]) == (0, 0, 1)


def test_bleu_1_brevity_penalty_by_hand():
    # 3 of 3 right, 4 in the reference: exp(1 - 4/3)
    assert bleu_1(np.array([[3.0, 3.0, 4.0]]))[0] == pytest.approx(np.exp(-1 / 3))
    assert bleu_1(np.array([[3.0, 4.0, 3.0], [0.0, 0.0, 5.0], [0.0, 4.0, 5.0]])).tolist() == [0.75, 0.0, 0.0]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(words, st.lists(words.filter(bool), min_size=1, max_size=3)), min_size=1, max_size=5)
)
def test_corpus_bleu_1_against_sacrebleu_with_ragged_references(items):
    tally = Bleu1Tally()
    for prediction, answers in items:
        tally.add(" ".join(prediction), [" ".join(gold) for gold in answers])
    most = max(len(answers) for _, answers in items)
    streams = [
        [" ".join(answers[i]) if i < len(answers) else None for _, answers in items] for i in range(most)
    ]
    peer = BLEU(max_ngram_order=1).corpus_score([" ".join(prediction) for prediction, _ in items], streams)
    assert tally.estimate(Bootstrap(n_resamples=1)).value == pytest.approx(peer.score / 100, abs=1e-12)


def test_bleu_1_interval_against_sacrebleus_own_bootstrap():
    generator = np.random.default_rng(3)
    references = [" ".join(generator.choice(list("abcdefgh"), size=8)) for _ in range(200)]
    predictions = [
        " ".join(
            token if generator.random() < 0.6 else "z" for token in gold.split()[: generator.integers(5, 9)]
        )
        for gold in references
    ]
    tally = Bleu1Tally()
    for prediction, gold in zip(predictions, references, strict=True):
        tally.add(prediction, [gold])
    _, low, high = tally.estimate(Bootstrap(n_resamples=4000))
    peer = BLEU(max_ngram_order=1).corpus_score(predictions, [references], n_bootstrap=4000)
    half_width = (high - low) / 2
    assert 100 * half_width == pytest.approx(peer._ci, rel=0.1)
    assert 100 * (low + high) / 2 == pytest.approx(peer._mean, abs=0.1 * peer._ci)


def distinct_ratio(answers):
    trigrams = [
        trigram
        for tokens in (answer.split() for answer in answers)
        for trigram in zip(tokens, tokens[1:], tokens[2:], strict=False)
    ]
    return len(set(trigrams)) / len(trigrams)


def trigram_tally(answers):
    tally = DistinctTrigramsTally()
    for answer in answers:
        tally.add(answer)
    return tally


def test_distinct_trigrams_by_hand():
    # abc, bcd / abc, bca: 4 trigrams, 3 distinct; "a b" has none
    tally = trigram_tally(["a b c d", "A B c a", "a b", ""])
    assert tally.n == 2
    assert tally.estimate(Bootstrap()).value == 0.75
    assert trigram_tally(["a b", ""]).n == 0
    assert trigram_tally(["a a a a"]).estimate(Bootstrap()) == (0.5, 0.5, 0.5)


def test_trigrams_do_not_run_together():
    assert trigram_keys("ab c d") != trigram_keys("a bc d")
    assert len(trigram_keys("a b c, d")) == 3  # the comma is a token


def test_trigram_keys_are_the_same_in_every_process():
    command = "from rag_core.metrics.text import trigram_keys; print(trigram_keys('one two three'))"
    for seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", command],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.strip() == str(trigram_keys("one two three"))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=3, max_size=7), min_size=2, max_size=6))
def test_distinct_trigram_influences_against_leaving_each_answer_out(token_lists):
    answers = [" ".join(tokens) for tokens in token_lists]
    n = len(answers)
    left_out = np.array([distinct_ratio(answers[:i] + answers[i + 1 :]) for i in range(n)])
    influences = (n - 1) * (left_out.mean() - left_out)
    bootstrap = Bootstrap()
    value, low, high = trigram_tally(answers).estimate(bootstrap)
    assert value == pytest.approx(distinct_ratio(answers), abs=1e-12)
    expected_low, expected_high = bootstrap.mean_interval(value + influences)
    assert low == pytest.approx(max(0.0, expected_low), abs=1e-9)
    assert high == pytest.approx(min(1.0, expected_high), abs=1e-9)


def test_distinct_trigrams_interval_covers_the_spread_over_fresh_corpora():
    """Corpora from one source: the interval of one is at least as wide as the ratio's own spread."""
    generator = np.random.default_rng(5)
    vocabulary = [f"w{i}" for i in range(20)]
    popularity = 1.0 / np.arange(1, 21)
    popularity /= popularity.sum()

    def corpus():
        return [" ".join(generator.choice(vocabulary, size=8, p=popularity)) for _ in range(150)]

    ratios = np.array([distinct_ratio(corpus()) for _ in range(200)])
    spread = np.percentile(ratios, 97.5) - np.percentile(ratios, 2.5)
    intervals = [trigram_tally(corpus()).estimate(Bootstrap()) for _ in range(40)]
    widths = np.array([high - low for _, low, high in intervals])
    assert spread < widths.mean() < 1.5 * spread
    covered = np.mean([low <= ratios.mean() <= high for _, low, high in intervals])
    assert covered >= 0.9
