"""Document pruning: what is left out, what that can change, and how much it can cost."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_core.answers import Answer, DecodingSettings, RetrievedQuestion
from rag_core.decoding import generate_answers
from rag_core.errors import UsageError
from rag_core.generator import Generator
from rag_core.ready_question import ReadyQuestion, ready_questions
from tests.rag_core import oracles
from tests.rag_core.tiny_generators import tiny_bart, tiny_t5


def with_priors(seed: int, priors: list[float]) -> RetrievedQuestion:
    (question,) = oracles.random_questions(seed, [len(priors)])
    scores = (75 + np.log(priors)).astype(np.float32)
    return RetrievedQuestion(question.question, question.passages, scores)


def ready(priors: list[float]) -> ReadyQuestion:
    questions, _ = ready_questions(tiny_bart(), [with_priors(1, priors)])
    return questions[0]


def decode(generator: Generator, question: RetrievedQuestion, model_type: str, **options: object) -> Answer:
    decoding = "thorough" if model_type == "rag_sequence" else "beam"
    options = {"num_beams": 2, "max_new_tokens": 6, "token_posteriors": True} | options
    (answer,) = generate_answers(generator, [question], DecodingSettings(model_type, decoding, **options))
    assert isinstance(answer, Answer)
    return answer


@pytest.mark.parametrize(
    ("mass", "kept"),
    [(0.0, [0, 1, 2, 3]), (0.04, [0, 1, 2, 3]), (0.06, [0, 1, 2]), (0.2, [0, 2]), (0.99, [2])],
)
def test_the_least_probable_documents_of_so_much_mass_are_left_out(mass: float, kept: list[int]) -> None:
    question = ready([0.3, 0.1, 0.55, 0.05]).pruned(mass)
    assert question.kept.tolist() == kept
    left_out = np.delete([0.3, 0.1, 0.55, 0.05], kept).sum()
    assert question.pruned_mass == pytest.approx(left_out, abs=1e-5)
    assert question.pruned_mass <= mass
    assert len(question.contexts) == len(question.log_prior) == len(kept)
    np.testing.assert_allclose(question.prior, [0.3, 0.1, 0.55, 0.05], atol=1e-5)


def test_values_of_the_documents_read_are_put_at_their_passages() -> None:
    question = ready([0.3, 0.1, 0.55, 0.05]).pruned(0.2)
    np.testing.assert_array_equal(question.over_passages(np.array([1.0, 2.0]), 0.0), [1.0, 0.0, 2.0, 0.0])


def test_closed_book_has_nothing_to_prune() -> None:
    (question,) = oracles.random_questions(1, [0])
    answers = [decode(tiny_bart(1), question, "rag_sequence", prune_mass=mass) for mass in (0.0, 0.5)]
    assert answers[0].log_prob == answers[1].log_prob
    assert answers[1].answer_bound == 0.0


any_pruning = given(
    seed=st.integers(0, 10_000),
    model_type=st.sampled_from(["rag_sequence", "rag_token"]),
    size=st.integers(2, 6),
    mass=st.sampled_from([0.02, 0.2, 0.6]),
    num_beams=st.integers(2, 3),
    t5=st.booleans(),
)


@settings(deadline=None, max_examples=8)
@any_pruning
def test_the_bound_covers_the_answers_probability_under_all_documents(
    seed: int, model_type: str, size: int, mass: float, num_beams: int, t5: bool
) -> None:
    generator = tiny_t5(seed) if t5 else tiny_bart(seed)
    question = with_priors(seed, np.random.default_rng(seed).dirichlet(np.ones(size)).clip(1e-4).tolist())
    answer = decode(generator, question, model_type, prune_mass=mass, num_beams=num_beams)
    pruned = np.isnan(answer.passage_log_probs)
    assert answer.prior[pruned].sum() <= mass
    assert not answer.posterior[pruned].any()
    assert (answer.answer_bound > 0) == pruned.any()
    assert answer.tokens is not None
    assert sum(token.log_prob for token in answer.tokens) == pytest.approx(answer.log_prob, abs=1e-9)
    # the answer's tokens, found again by the probabilities of the documents that were read
    candidates = {
        target
        for context in oracles.contexts_of(generator, question)
        for target in oracles.transformers_beams(
            generator, oracles.eager_model(generator), context, num_beams, 6
        )
        if generator.decode(target) == answer.answer
    }
    if model_type == "rag_token":
        kept = RetrievedQuestion(
            question.question,
            tuple(p for p, left_out in zip(question.passages, pruned, strict=True) if not left_out),
            question.scores[~pruned],
        )
        best = oracles.rag_token_transformers(generator, kept, num_beams, 6)[0]
        candidates = {best} if generator.decode(best) == answer.answer else set()
    prior = np.log(answer.prior)
    for target in candidates:
        scores = oracles.scores_under_documents(
            generator, oracles.eager_model(generator), question, (*target, generator.end_token)
        )
        if not np.allclose(scores.sum(axis=1)[~pruned], answer.passage_log_probs[~pruned]):
            continue  # another target of the same text
        if model_type == "rag_sequence":
            exact = np.logaddexp.reduce(prior + scores.sum(axis=1))
        else:
            exact = np.logaddexp.reduce(prior[:, None] + scores, axis=0).sum()
        assert answer.log_prob - 1e-9 <= exact <= answer.log_prob + answer.answer_bound + 1e-9


test_the_bound_covers_the_answers_probability_under_all_documents_in_many_cases = pytest.mark.slow(
    settings(deadline=None, max_examples=200)(
        any_pruning(test_the_bound_covers_the_answers_probability_under_all_documents.hypothesis.inner_test)
    )
)


@pytest.mark.parametrize("mass", [0.001, 0.05, 0.3])
def test_greedy_rag_token_answers_as_with_all_documents(mass: float, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    certain = exact = 0
    for seed in range(12):
        generator = tiny_bart(seed)
        encode = generator.encode
        monkeypatch.setattr(
            generator, "encode", lambda contexts, n, encode=encode: encoded.append(1) or encode(contexts, n)
        )
        question = with_priors(seed, [0.5, 0.2, 0.2, 0.06, 0.03, 0.01])
        full = decode(generator, question, "rag_token", num_beams=1)
        encoded.clear()
        pruned = decode(generator, question, "rag_token", num_beams=1, prune_mass=mass)
        assert pruned.answer == full.answer
        assert pruned.log_prob - 1e-9 <= full.log_prob <= pruned.log_prob + pruned.answer_bound + 1e-9
        certain += len(encoded) == 1
        exact += pruned.answer_bound == 0
    assert certain > 0
    if mass == 0.3:
        assert exact > 0  # some steps were too close, and the question was answered again


@pytest.mark.parametrize("mass", [-0.1, 1.0])
def test_a_mass_that_is_no_probability_is_refused(mass: float) -> None:
    with pytest.raises(UsageError, match="--prune_mass"):
        DecodingSettings("rag_token", "beam", prune_mass=mass)


def test_pruning_in_float32_keeps_the_greedy_answer() -> None:
    generator = tiny_bart(3, dtype=torch.float32)
    question = with_priors(3, [0.6, 0.3, 0.08, 0.02])
    answers = {
        decode(generator, question, "rag_token", num_beams=1, prune_mass=m).answer for m in (0, 0.05, 0.2)
    }
    assert len(answers) == 1
