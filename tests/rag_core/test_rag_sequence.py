"""RAG-Sequence against brute force: the union of transformers' own beams, each scored in float64 without caches."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag_core.answers import Answer, DecodingSettings, RetrievedQuestion
from rag_core.decoding import generate_answers
from rag_core.generator import Generator
from tests.rag_core import oracles
from tests.rag_core.tiny_generators import tiny_bart, tiny_t5

EVERY_CANDIDATE = 1000


def decode(generator: Generator, questions: list, decoding: str, **options: object) -> list[Answer]:
    options = {"num_candidates": EVERY_CANDIDATE, "token_posteriors": True} | options
    answers = generate_answers(generator, questions, DecodingSettings("rag_sequence", decoding, **options))
    assert all(isinstance(answer, Answer) for answer in answers)
    return answers


def check_candidates(generator: Generator, answer: Answer, expected: list[oracles.Marginal]) -> None:
    assert [c.answer for c in answer.candidates] == [generator.decode(y.tokens) for y in expected]
    np.testing.assert_allclose(
        [c.log_prob for c in answer.candidates], [y.log_prob for y in expected], atol=1e-9
    )
    assert answer.answer == answer.candidates[0].answer
    assert answer.log_prob == answer.candidates[0].log_prob


def check_documents(
    generator: Generator, question: RetrievedQuestion, answer: Answer, best: oracles.Marginal
) -> None:
    """Prior, log-probabilities and posteriors of the answer, and of its tokens, over the documents it rests on."""
    prior = oracles.log_prior(question)
    under = np.isin(np.arange(len(prior)), list(best.under))
    np.testing.assert_allclose(answer.prior, np.exp(prior), atol=1e-12)
    np.testing.assert_allclose(
        answer.passage_log_probs, np.where(under, best.passage_log_probs, np.nan), atol=1e-9
    )
    posterior = np.where(under, np.exp(prior + best.passage_log_probs - best.log_prob), 0.0)
    np.testing.assert_allclose(answer.posterior, posterior, atol=1e-9)

    target = (*best.tokens, generator.end_token)
    scores = oracles.scores_under_documents(generator, oracles.eager_model(generator), question, target)
    joint = np.where(under[:, None], prior[:, None] + scores.cumsum(axis=1), -np.inf)
    prefixes = np.logaddexp.reduce(joint, axis=0)
    assert answer.tokens is not None
    np.testing.assert_allclose([t.log_prob for t in answer.tokens], np.diff(prefixes, prepend=0.0), atol=1e-9)
    np.testing.assert_allclose(
        np.stack([t.posterior for t in answer.tokens], axis=1), np.exp(joint - prefixes), atol=1e-9
    )


any_search = given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=2),
    num_beams=st.integers(1, 5),
    limit=st.integers(1, 6),
    t5=st.booleans(),
)


@settings(deadline=None, max_examples=5)
@any_search
@example(seed=848, sizes=[3], num_beams=2, limit=2, t5=False)  # nothing but rounding between value and bound
def test_thorough_and_fast_equal_brute_force(
    seed: int, sizes: list[int], num_beams: int, limit: int, t5: bool
) -> None:
    generator = tiny_t5(seed) if t5 else tiny_bart(seed, prompt=(2, 0) if seed % 2 else (2,))
    questions = oracles.random_questions(seed, sizes)
    options = {"num_beams": num_beams, "max_new_tokens": limit, "batch_tokens": 500}
    thorough = decode(generator, questions, "thorough", **options)
    fast = decode(generator, questions, "fast", **options)
    for question, exact, lower in zip(questions, thorough, fast, strict=True):
        union = oracles.rag_sequence_candidates(generator, question, num_beams, limit, thorough=True)
        check_candidates(generator, exact, union)
        check_documents(generator, question, exact, union[0])
        assert exact.finish_reason == ("length" if len(union[0].tokens) == limit else "end")
        assert exact.answer_bound == 0.0

        expected = oracles.rag_sequence_candidates(generator, question, num_beams, limit, thorough=False)
        check_candidates(generator, lower, expected)
        check_documents(generator, question, lower, expected[0])
        same = next(i for i, y in enumerate(union) if y.tokens == expected[0].tokens)
        everywhere = exact.candidates[same].log_prob
        assert lower.log_prob <= everywhere <= lower.log_prob + lower.answer_bound
        assert (lower.answer_bound > 0.0) == (len(expected[0].under) < len(question.passages))


test_thorough_and_fast_equal_brute_force_in_many_cases = pytest.mark.slow(
    settings(deadline=None, max_examples=100)(
        any_search(test_thorough_and_fast_equal_brute_force.hypothesis.inner_test)
    )
)


any_penalty = given(
    seed=st.integers(0, 10_000), num_beams=st.integers(1, 4), length_penalty=st.sampled_from([0.0, 1.0])
)


@settings(deadline=None, max_examples=8)
@any_penalty
def test_fast_bound_holds_for_every_answer_it_can_give(
    seed: int, num_beams: int, length_penalty: float
) -> None:
    """Over many small models the bound covers p(y|x) with all documents, also with bans and penalties."""
    generator = tiny_bart(seed)
    (question,) = oracles.random_questions(seed, [4])
    (answer,) = decode(
        generator,
        [question],
        "fast",
        num_beams=num_beams,
        max_new_tokens=6,
        length_penalty=length_penalty,
        no_repeat_ngram=seed % 3,
        min_new_tokens=seed % 4,
    )
    model = oracles.eager_model(generator)
    scored = ~np.isnan(answer.passage_log_probs)
    assert math.isclose(
        answer.log_prob,
        np.logaddexp.reduce((oracles.log_prior(question) + answer.passage_log_probs)[scored]),
        abs_tol=1e-9,
    )
    # the answer's tokens, found again among the beams of all documents
    options = {"length_penalty": length_penalty, "min_new_tokens": seed % 4, "no_repeat_ngram_size": seed % 3}
    beams = [
        oracles.transformers_beams(generator, model, context, num_beams, 6, **options)
        for context in oracles.contexts_of(generator, question)
    ]
    exact = []
    for target in {target for beam in beams for target in beam if generator.decode(target) == answer.answer}:
        scores = oracles.scores_under_documents(generator, model, question, (*target, generator.end_token))
        if np.allclose(scores.sum(axis=1)[scored], answer.passage_log_probs[scored]):
            exact.append(np.logaddexp.reduce(oracles.log_prior(question) + scores.sum(axis=1)))
    assert exact
    assert max(exact) <= answer.log_prob + answer.answer_bound + 1e-12


test_fast_bound_holds_for_every_answer_it_can_give_in_many_cases = pytest.mark.slow(
    settings(deadline=None, max_examples=200)(
        any_penalty(test_fast_bound_holds_for_every_answer_it_can_give.hypothesis.inner_test)
    )
)


def test_a_target_of_one_token_carries_the_document_prior() -> None:
    """Where the search may only end at once: log p = logsumexp(prior + end), what transformers leaves out."""
    generator = tiny_bart(4, end_bias=60.0)
    (question,) = oracles.random_questions(4, [3])
    (answer,) = decode(generator, [question], "thorough", num_beams=1, max_new_tokens=5)
    assert answer.answer == ""
    scores = oracles.scores_under_documents(generator, oracles.eager_model(generator), question, (2,))[:, 0]
    assert answer.log_prob == pytest.approx(
        np.logaddexp.reduce(oracles.log_prior(question) + scores), abs=1e-12
    )
    assert answer.finish_reason == "end"


@pytest.mark.parametrize("decoding", ["thorough", "fast"])
def test_the_same_alone_and_among_others(decoding: str) -> None:
    generator = tiny_bart(7)
    questions = oracles.random_questions(7, [3, 1, 0, 4, 2])
    options = {"num_beams": 3, "max_new_tokens": 6}
    together = decode(generator, questions, decoding, batch_tokens=10**6, **options)
    for question, answer in zip(questions, together, strict=True):
        for batch_tokens in (1, 200, 10**6):
            (alone,) = decode(generator, [question], decoding, batch_tokens=batch_tokens, **options)
            assert [c.answer for c in alone.candidates] == [c.answer for c in answer.candidates]
            np.testing.assert_allclose(
                [c.log_prob for c in alone.candidates], [c.log_prob for c in answer.candidates], atol=1e-10
            )
            np.testing.assert_allclose(alone.posterior, answer.posterior, atol=1e-10)
            assert alone.answer_bound == pytest.approx(answer.answer_bound, abs=1e-10)


def test_closed_book_answers_from_the_question_alone() -> None:
    generator = tiny_t5(2)
    question = RetrievedQuestion("What is the capital of France ?", (), np.empty(0, np.float32))
    (context,) = generator.contexts(question.question, ())
    assert context == generator.tokenizer(question.question)["input_ids"]
    (answer,) = decode(generator, [question], "thorough", num_beams=3, max_new_tokens=5)
    expected = oracles.rag_sequence_candidates(generator, question, 3, 5, thorough=True)
    check_candidates(generator, answer, expected)
    assert len(answer.prior) == len(answer.posterior) == len(answer.passage_log_probs) == 0
    assert answer.tokens is not None
    assert sum(token.log_prob for token in answer.tokens) == pytest.approx(answer.log_prob, abs=1e-10)
    assert all(len(token.posterior) == 0 for token in answer.tokens)


def test_length_penalty_orders_the_candidates_but_not_their_probabilities() -> None:
    generator = tiny_bart(15)
    questions = oracles.random_questions(15, [4, 3])
    options = {"num_beams": 4, "max_new_tokens": 6, "length_penalty": 0.3}
    reordered = 0
    for question, answer in zip(questions, decode(generator, questions, "thorough", **options), strict=True):
        expected = oracles.rag_sequence_candidates(
            generator, question, 4, 6, thorough=True, length_penalty=0.3
        )
        by_probability = [y.log_prob for y in expected]
        expected.sort(key=lambda y: -y.log_prob / (len(y.tokens) + 1) ** 0.3)
        check_candidates(generator, answer, expected)
        reordered += [y.log_prob for y in expected] != by_probability
    assert reordered


def test_equal_documents_share_one_candidate() -> None:
    """The same passage K times: one beam's candidates, and the prior of all behind each."""
    generator = tiny_bart(6)
    (question,) = oracles.random_questions(6, [1])
    repeated = RetrievedQuestion(question.question, question.passages * 3, np.array([1, 0, 2], np.float32))
    (once,) = decode(generator, [question], "thorough", num_beams=3, max_new_tokens=5)
    for decoding in ("thorough", "fast"):
        (answer,) = decode(generator, [repeated], decoding, num_beams=3, max_new_tokens=5)
        assert [c.answer for c in answer.candidates] == [c.answer for c in once.candidates]
        assert answer.log_prob == pytest.approx(once.log_prob, abs=1e-10)
        np.testing.assert_allclose(answer.posterior, answer.prior, atol=1e-10)
        assert answer.answer_bound == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_stays_near_float64(dtype: torch.dtype) -> None:
    """Scores of one and the same answer; bfloat16 logits carry 8 bits, so whole nats may be off."""
    questions = oracles.random_questions(8, [3, 2])
    generator = tiny_bart(8, dtype=dtype)
    tolerance = {torch.float32: 1e-4, torch.bfloat16: 1.5}[dtype]
    exact = oracles.eager_model(tiny_bart(8))
    for question, answer in zip(
        questions, decode(generator, questions, "thorough", num_beams=2, max_new_tokens=4), strict=True
    ):
        assert answer.prior.dtype == answer.posterior.dtype == np.float64
        np.testing.assert_allclose(answer.prior, np.exp(oracles.log_prior(question)), atol=1e-12)
        assert answer.posterior.sum() == pytest.approx(1.0, abs=1e-12)
        marginals = [
            np.logaddexp.reduce(
                oracles.log_prior(question)
                + oracles.scores_under_documents(generator, exact, question, (*y.tokens, 2)).sum(axis=1)
            )
            for y in oracles.rag_sequence_candidates(generator, question, 2, 4, thorough=True)
            if generator.decode(y.tokens) == answer.answer
        ]
        assert min(abs(marginal - answer.log_prob) for marginal in marginals) < tolerance
