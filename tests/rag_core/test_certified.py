"""Certified Thorough Decoding: the answers of Thorough Decoding, from a part of its scores."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_core.answers import Answer, DecodingSettings
from rag_core.decoding import generate_answers
from rag_core.generator import Generator
from tests.rag_core import oracles
from tests.rag_core.tiny_generators import tiny_bart, tiny_t5

EVERY_CANDIDATE = 1000  # an answer that lists every candidate has all of them scored everywhere


def decode(generator: Generator, questions: list, num_candidates: int, **options: object) -> list[Answer]:
    answers = generate_answers(
        generator,
        questions,
        DecodingSettings(
            "rag_sequence", "thorough", num_candidates=num_candidates, token_posteriors=True, **options
        ),
    )
    assert all(isinstance(answer, Answer) for answer in answers)
    return answers


def check_same(certified: Answer, full: Answer, num_candidates: int, tolerance: float) -> None:
    assert certified.answer == full.answer
    assert certified.finish_reason == full.finish_reason
    assert certified.log_prob == pytest.approx(full.log_prob, abs=tolerance)
    assert [c.answer for c in certified.candidates] == [c.answer for c in full.candidates[:num_candidates]]
    np.testing.assert_allclose(
        [c.log_prob for c in certified.candidates],
        [c.log_prob for c in full.candidates[:num_candidates]],
        atol=tolerance,
    )
    np.testing.assert_allclose(certified.passage_log_probs, full.passage_log_probs, atol=tolerance)
    np.testing.assert_allclose(certified.posterior, full.posterior, atol=tolerance)
    assert certified.tokens is not None
    assert full.tokens is not None
    np.testing.assert_allclose(
        [token.log_prob for token in certified.tokens],
        [token.log_prob for token in full.tokens],
        atol=tolerance,
    )
    assert certified.answer_bound == 0.0
    assert full.pair_scorings_saved == 0
    assert certified.pair_scorings + certified.pair_scorings_saved == full.pair_scorings
    assert certified.pair_scorings_saved >= 0


any_search = given(
    seed=st.integers(0, 100_000),
    sizes=st.lists(st.integers(0, 8), min_size=1, max_size=3),
    num_beams=st.integers(1, 5),
    limit=st.integers(1, 7),
    num_candidates=st.sampled_from([1, 1, 1, 2, 4]),
    t5=st.booleans(),
)


@settings(deadline=None, max_examples=20)
@any_search
def test_certified_equals_thorough(
    seed: int, sizes: list[int], num_beams: int, limit: int, num_candidates: int, t5: bool
) -> None:
    generator = tiny_t5(seed) if t5 else tiny_bart(seed, prompt=(2, 0) if seed % 2 else (2,))
    questions = oracles.random_questions(seed, sizes)
    options = {"num_beams": num_beams, "max_new_tokens": limit}
    certified = decode(generator, questions, num_candidates, batch_tokens=700, **options)
    for ours, full in zip(certified, decode(generator, questions, EVERY_CANDIDATE, **options), strict=True):
        check_same(ours, full, num_candidates, 1e-9)


test_certified_equals_thorough_in_many_cases = pytest.mark.slow(
    settings(deadline=None, max_examples=400)(
        any_search(test_certified_equals_thorough.hypothesis.inner_test)
    )
)


@pytest.mark.parametrize("seed", range(4))
def test_float32_decides_as_with_every_score(seed: int) -> None:
    generator = tiny_bart(seed, dtype=torch.float32)
    questions = oracles.random_questions(seed, [8, 5, 8])
    options = {"num_beams": 3, "max_new_tokens": 8}
    certified = decode(generator, questions, 1, **options)
    for ours, full in zip(certified, decode(generator, questions, EVERY_CANDIDATE, **options), strict=True):
        check_same(ours, full, 1, 1e-4)


def test_bfloat16_decides_as_with_every_score() -> None:
    """Scores in bfloat16 depend on the shape of the pass by whole tenths, so near ties may go either way."""
    options = {"num_beams": 3, "max_new_tokens": 8}
    clear = 0
    for seed in range(4):
        generator = tiny_bart(seed, dtype=torch.bfloat16)
        questions = oracles.random_questions(seed, [8, 5, 8])
        certified = decode(generator, questions, 1, **options)
        every = decode(generator, questions, EVERY_CANDIDATE, **options)
        for ours, full in zip(certified, every, strict=True):
            if full.candidates[0].log_prob - full.candidates[1].log_prob > 1.0:
                clear += 1
                assert ours.answer == full.answer
                assert ours.log_prob == pytest.approx(full.log_prob, abs=0.5)
    assert clear > 3


def test_the_certificate_saves_most_scorings_where_hypotheses_end() -> None:
    """A hypothesis cut by the limit has no bound of its end token's probability, which decides its rank."""
    scored = saved = 0
    for seed in range(4):
        generator = tiny_bart(seed, end_bias=14.0)
        for answer in decode(
            generator, oracles.random_questions(seed, [8, 8]), 1, num_beams=4, max_new_tokens=8
        ):
            assert answer.finish_reason == "end"
            scored += answer.pair_scorings
            saved += answer.pair_scorings_saved
    assert saved > 0.9 * (scored + saved)


@pytest.mark.parametrize("shaped", [{"length_penalty": 0.5}, {"no_repeat_ngram": 2}, {"min_new_tokens": 2}])
def test_where_more_than_the_model_shapes_the_scores_all_pairs_are_scored(shaped: dict) -> None:
    generator = tiny_bart(3)
    for answer in decode(
        generator, oracles.random_questions(3, [5, 4]), 1, num_beams=3, max_new_tokens=6, **shaped
    ):
        assert answer.pair_scorings > 0
        assert answer.pair_scorings_saved == 0


def test_fast_decoding_counts_nothing() -> None:
    settings = DecodingSettings("rag_sequence", "fast", num_beams=3, max_new_tokens=6)
    for answer in generate_answers(tiny_bart(3), oracles.random_questions(3, [5, 4]), settings):
        assert isinstance(answer, Answer)
        assert answer.pair_scorings == answer.pair_scorings_saved == 0
