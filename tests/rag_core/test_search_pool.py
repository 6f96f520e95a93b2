"""Continuous batching: searches that join others at any step find what they find alone."""

import numpy as np
import pytest
import torch

from rag_core.answers import Answer, DecodingSettings
from rag_core.beam_search import BeamSearches
from rag_core.decoder import EncodedDocuments
from rag_core.decoding import generate_answers
from rag_core.generator import Generator
from rag_core.search_history import SearchResult
from rag_core.search_pool import SearchTask, run_searches
from tests.rag_core import oracles
from tests.rag_core.tiny_generators import tiny_bart, tiny_t5

GENERATORS = pytest.mark.parametrize(
    "generator", [tiny_bart(0), tiny_bart(0, prompt=(2,)), tiny_t5(0)], ids=["bart", "one-token-prompt", "t5"]
)


def tasks_of(generator: Generator, sizes: list[int]) -> list[SearchTask]:
    """One search a question, over all of its documents."""
    return [
        SearchTask(
            (number, 0),
            oracles.contexts_of(generator, question),
            torch.from_numpy(oracles.log_prior(question)),
        )
        for number, question in enumerate(oracles.random_questions(11, sizes))
    ]


def results(generator: Generator, tasks: list[SearchTask], settings: DecodingSettings) -> list[SearchResult]:
    found = {finished.name: finished.result for finished in run_searches(generator, tasks, settings)}
    return [found[task.name] for task in tasks]


def check_same(ours: SearchResult, alone: SearchResult) -> None:
    assert [y.tokens for y in ours.hypotheses] == [y.tokens for y in alone.hypotheses]
    assert [y.cut for y in ours.hypotheses] == [y.cut for y in alone.hypotheses]
    for joined, single in zip(ours.hypotheses, alone.hypotheses, strict=True):
        np.testing.assert_allclose(joined.log_probs, single.log_probs, atol=1e-10)
    np.testing.assert_array_equal(ours.trace.tokens, alone.trace.tokens)
    np.testing.assert_allclose(ours.trace.sums, alone.trace.sums, atol=1e-10)


def begun(generator: Generator, tasks: list[SearchTask], settings: DecodingSettings) -> BeamSearches:
    encoded = generator.encode([context for task in tasks for context in task.contexts], 100)
    searches = BeamSearches(
        generator,
        EncodedDocuments.pack(generator.decoder, encoded),
        [task.name for task in tasks],
        [len(task.contexts) for task in tasks],
        torch.cat([task.log_prior for task in tasks]),
        settings,
    )
    searches.advance()
    return searches


@GENERATORS
@pytest.mark.parametrize("lag", [1, 4])
@pytest.mark.parametrize(
    "options",
    [{}, {"num_beams": 1}, {"no_repeat_ngram": 2}, {"min_new_tokens": 3}, {"length_penalty": 1.0}],
    ids=str,
)
def test_searches_that_join_in_mid_course_find_the_same(
    generator: Generator, lag: int, options: dict
) -> None:
    """Two joins, at different steps; closed searches leave in between."""
    settings = DecodingSettings("rag_token", "beam", **{"num_beams": 3, "max_new_tokens": 9} | options)
    tasks = tasks_of(generator, [1, 3, 2, 1, 4])
    pool = begun(generator, tasks[:2], settings)
    found: dict = {}
    for entering in (tasks[2:4], tasks[4:]):
        for _ in range(lag):
            pool.advance()
        found |= dict(pool.take_closed())
        assert pool.idle_share < 1.0
        pool.join(begun(generator, entering, settings))
    while pool.idle_share < 1.0:
        pool.advance()
        found |= dict(pool.take_closed())
    for task in tasks:
        check_same(found[task.name], results(generator, [task], settings)[0])


@pytest.mark.parametrize("model_type", ["rag_sequence", "rag_token"])
def test_waiting_questions_enter_while_others_run(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = tiny_bart(10)
    decoding = "thorough" if model_type == "rag_sequence" else "beam"
    settings = DecodingSettings(model_type, decoding, num_beams=3, max_new_tokens=9, batch_tokens=600)
    questions = oracles.random_questions(11, [1, 1, 2, 1, 1, 1, 2, 1, 1, 2, 1, 1])
    alone = [generate_answers(generator, [question], settings)[0] for question in questions]
    lags: list[int] = []
    join = BeamSearches.join

    def counted(pool: BeamSearches, other: BeamSearches) -> None:
        lags.append(int(pool._running.steps.max() - other._running.steps.max()))
        join(pool, other)

    monkeypatch.setattr(BeamSearches, "join", counted)
    for ours, single in zip(generate_answers(generator, questions, settings), alone, strict=True):
        assert isinstance(ours, Answer)
        assert isinstance(single, Answer)
        assert ours.answer == single.answer
        assert ours.log_prob == pytest.approx(single.log_prob, abs=1e-10)
    assert max(lags) > 2


@GENERATORS
def test_a_model_that_cannot_join_takes_the_waiting_when_the_others_are_done(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DecodingSettings("rag_token", "beam", num_beams=2, max_new_tokens=6, batch_tokens=200)
    tasks = tasks_of(generator, [2, 1, 3, 1, 2])
    joined = results(generator, tasks, settings)
    monkeypatch.setattr(type(generator.decoder), "joins", False)
    monkeypatch.setattr(BeamSearches, "join", lambda pool, other: pytest.fail("joined"))
    for ours, other in zip(results(generator, tasks, settings), joined, strict=True):
        check_same(ours, other)


@pytest.mark.parametrize("batch_tokens", [1, 120, 300, 10_000])
def test_the_budget_bounds_what_is_held(batch_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = tiny_bart(5)
    tasks = tasks_of(generator, [1] * 12)
    settings = DecodingSettings("rag_token", "beam", num_beams=2, max_new_tokens=6, batch_tokens=batch_tokens)
    advance, held = BeamSearches.advance, []

    def watched(pool: BeamSearches) -> None:
        held.append((pool.num_documents, pool.num_documents * pool.positions))
        advance(pool)

    monkeypatch.setattr(BeamSearches, "advance", watched)
    assert len(results(generator, tasks, settings)) == 12
    assert all(documents == 1 or tokens <= batch_tokens for documents, tokens in held)
    most = max(documents for documents, _ in held)
    assert most == 1 if batch_tokens == 1 else most > 1
    assert most == 12 or batch_tokens < 10_000


@pytest.mark.parametrize("num_beams", [1, 3])
def test_in_float32_the_batch_decides_nothing_but_near_ties(num_beams: int) -> None:
    """The same hypotheses alone and among others, wherever all neighbouring sums are 1e-4 or more apart."""
    settings = DecodingSettings("rag_token", "beam", num_beams=num_beams, max_new_tokens=8, batch_tokens=400)
    clear = 0
    for seed in range(6):
        generator = tiny_bart(seed, dtype=torch.float32)
        tasks = tasks_of(generator, [2, 1, 3, 1, 2, 4])
        for task, together in zip(tasks, results(generator, tasks, settings), strict=True):
            (alone,) = results(generator, [task], settings)
            sums = alone.trace.sums
            margin = -np.diff(np.where(np.isfinite(sums), sums, np.nan), axis=1)
            if np.nanmin(margin) < 1e-4:
                continue
            clear += 1
            assert [y.tokens for y in together.hypotheses] == [y.tokens for y in alone.hypotheses]
            for joined, single in zip(together.hypotheses, alone.hypotheses, strict=True):
                np.testing.assert_allclose(joined.log_probs, single.log_probs, atol=1e-4)
    assert clear > 20
