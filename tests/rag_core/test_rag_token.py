"""RAG-Token against transformers' RagTokenForGeneration, token for token, and against its formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_core.answers import Answer, DecodingSettings
from rag_core.decoding import generate_answers
from rag_core.generator import Generator
from tests.rag_core import oracles
from tests.rag_core.tiny_generators import tiny_bart, tiny_t5


def decode(generator: Generator, questions: list, **options: object) -> list[Answer]:
    answers = generate_answers(
        generator, questions, DecodingSettings("rag_token", "beam", token_posteriors=True, **options)
    )
    assert all(isinstance(answer, Answer) for answer in answers)
    return answers


def check_against_formulas(generator: Generator, question, answer: Answer, tokens: tuple[int, ...]) -> None:
    """Every number of an answer, from plain passes of the model."""
    model = oracles.eager_model(generator)
    scores = oracles.scores_under_documents(generator, model, question, (*tokens, generator.end_token))
    prior = oracles.log_prior(question)
    marginals = np.logaddexp.reduce(prior[:, None] + scores, axis=0)
    posteriors = np.exp(prior[:, None] + scores - marginals)
    assert answer.log_prob == pytest.approx(marginals.sum(), abs=1e-9)
    np.testing.assert_allclose(answer.prior, np.exp(prior), atol=1e-12)
    np.testing.assert_allclose(answer.passage_log_probs, scores.sum(axis=1), atol=1e-9)
    np.testing.assert_allclose(answer.posterior, posteriors.mean(axis=1), atol=1e-9)
    assert answer.tokens is not None
    np.testing.assert_allclose([token.log_prob for token in answer.tokens], marginals, atol=1e-9)
    np.testing.assert_allclose(
        np.stack([token.posterior for token in answer.tokens], axis=1), posteriors, atol=1e-9
    )
    assert answer.answer_bound == 0.0


any_search = given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=2),
    num_beams=st.integers(1, 5),
    limit=st.integers(1, 8),
    t5=st.booleans(),
)


@settings(deadline=None, max_examples=5)
@any_search
def test_equals_transformers_token_for_token(
    seed: int, sizes: list[int], num_beams: int, limit: int, t5: bool
) -> None:
    generator = tiny_t5(seed) if t5 else tiny_bart(seed, prompt=(2, 0) if seed % 2 else (2,))
    questions = oracles.random_questions(seed, sizes)
    answers = decode(
        generator,
        questions,
        num_beams=num_beams,
        max_new_tokens=limit,
        num_candidates=num_beams,
        batch_tokens=400,
    )
    for question, answer in zip(questions, answers, strict=True):
        expected = oracles.rag_token_transformers(generator, question, num_beams, limit)
        assert [candidate.answer for candidate in answer.candidates] == [
            generator.decode(y) for y in expected
        ]
        assert answer.answer == generator.decode(expected[0])
        assert answer.finish_reason == ("length" if len(expected[0]) == limit else "end")
        check_against_formulas(generator, question, answer, expected[0])


test_equals_transformers_token_for_token_in_many_cases = pytest.mark.slow(
    settings(deadline=None, max_examples=100)(
        any_search(test_equals_transformers_token_for_token.hypothesis.inner_test)
    )
)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"length_penalty": 1.0}, {"length_penalty": 1.0}),
        ({"length_penalty": -0.5}, {"length_penalty": -0.5}),
        ({"min_new_tokens": 4}, {"min_new_tokens": 4}),
        ({"no_repeat_ngram": 2}, {"no_repeat_ngram_size": 2}),
        ({"no_repeat_ngram": 1, "num_beams": 1}, {"no_repeat_ngram_size": 1}),
        ({"length_penalty": 2.0, "no_repeat_ngram": 3}, {"length_penalty": 2.0, "no_repeat_ngram_size": 3}),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_penalties_and_bans_are_those_of_transformers(seed: int, ours: dict, theirs: dict) -> None:
    generator = tiny_bart(seed, prompt=(2,))
    options = {"num_beams": 3, "max_new_tokens": 7} | ours
    for question in oracles.random_questions(seed, [3, 2]):
        expected = oracles.rag_token_transformers(
            generator, question, options["num_beams"], options["max_new_tokens"], **theirs
        )
        (answer,) = decode(generator, [question], num_candidates=options["num_beams"], **options)
        assert [candidate.answer for candidate in answer.candidates] == [
            generator.decode(y) for y in expected
        ]
        check_against_formulas(generator, question, answer, expected[0])


def test_the_same_alone_and_among_others() -> None:
    generator = tiny_bart(5)
    questions = oracles.random_questions(5, [3, 1, 4, 0, 2, 5])
    options = {"num_beams": 3, "max_new_tokens": 8, "num_candidates": 3}
    together = decode(generator, questions, batch_tokens=10**6, **options)
    for question, answer in zip(questions, together, strict=True):
        for batch_tokens in (1, 10**6):
            (alone,) = decode(generator, [question], batch_tokens=batch_tokens, **options)
            assert [c.answer for c in alone.candidates] == [c.answer for c in answer.candidates]
            assert alone.log_prob == pytest.approx(answer.log_prob, abs=1e-10)
            np.testing.assert_allclose(alone.posterior, answer.posterior, atol=1e-10)


def test_one_document_is_the_generator_alone() -> None:
    generator = tiny_t5(3)
    (question,) = oracles.random_questions(3, [1])
    model = oracles.eager_model(generator)
    (context,) = oracles.contexts_of(generator, question)
    (answer,) = decode(generator, [question], num_beams=4, max_new_tokens=6)
    assert answer.answer == generator.decode(oracles.transformers_beams(generator, model, context, 4, 6)[0])
    np.testing.assert_allclose(answer.posterior, [1.0])
