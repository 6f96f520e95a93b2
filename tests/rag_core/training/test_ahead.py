"""Batches made ready ahead are those that would have been made at the time."""

import threading

import pytest

from rag_core.training.ahead import Ahead


def test_every_step_gets_its_own_batch():
    ahead = Ahead(lambda step: f"batch {step}", 4)

    assert [ahead.take(step) for step in range(4)] == ["batch 0", "batch 1", "batch 2", "batch 3"]


def test_the_next_batch_is_made_while_this_one_is_used():
    begun = threading.Event()

    def prepare(step: int) -> int:
        if step == 1:
            begun.set()
        return step

    assert Ahead(prepare, 2).take(0) == 0
    assert begun.wait(timeout=30)


def test_a_resumed_run_begins_at_any_step():
    ahead = Ahead(lambda step: step, 10)
    ahead.take(0)

    assert [ahead.take(step) for step in (7, 8, 9)] == [7, 8, 9]


def test_nothing_is_made_beyond_the_last_step():
    made: list[int] = []
    ahead = Ahead(lambda step: made.append(step), 2)
    for step in range(2):
        ahead.take(step)

    assert made == [0, 1]


def test_what_preparing_raises_comes_with_the_step_it_was_for():
    def prepare(step: int) -> int:
        if step == 1:
            raise ValueError("the question is too long")
        return step

    ahead = Ahead(prepare, 3)

    assert ahead.take(0) == 0
    with pytest.raises(ValueError, match="too long"):
        ahead.take(1)
