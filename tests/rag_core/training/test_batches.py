"""Which rows a step is trained on."""

import itertools
from collections import Counter

import numpy as np
import pytest

from rag_core.errors import UsageError
from rag_core.training.batches import EpochBatches, Groups

NAMES = [name for name, count in (("a", 7), ("b", 3), ("c", 1), ("d", 12)) for _ in range(count)]


def order(batches: EpochBatches, steps: range) -> list[int]:
    return [row for step in steps for row in batches.rows(step).tolist()]


@pytest.mark.parametrize("groups", [None, Groups(NAMES, 3)])
def test_every_row_once_an_epoch_in_another_order(groups: Groups | None) -> None:
    batches = EpochBatches(len(NAMES), 1, 2, seed=4, groups=groups)
    first, second = order(batches, range(23)), order(batches, range(23, 46))
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second
    assert batches.total_steps == 46


@pytest.mark.parametrize("groups", [None, Groups(NAMES, 3)])
def test_the_seed_decides(groups: Groups | None) -> None:
    one, same, other = (order(EpochBatches(23, 5, 1, seed=s, groups=groups), range(4)) for s in (1, 1, 2))
    assert one == same != other


def test_rows_of_a_name_stand_together_as_many_as_may() -> None:
    """Seven rows of a name by threes are runs of 3, 3 and 1; where two runs of a name meet, they are one."""
    drawn = Groups(NAMES, 3).order(np.random.default_rng(0))
    names = [NAMES[row] for row in drawn]
    changes = sum(one != next_one for one, next_one in itertools.pairwise(names))
    assert changes + 1 <= 3 + 1 + 1 + 4
    assert Counter(names) == Counter(NAMES)
    assert Groups(NAMES, 1).order(np.random.default_rng(0)).tolist() != drawn.tolist()


def test_which_rows_of_a_name_meet_is_drawn_anew() -> None:
    groups = Groups(["a"] * 8, 2)
    pairs = [
        {frozenset(pair) for pair in groups.order(np.random.default_rng(seed)).reshape(4, 2).tolist()}
        for seed in range(3)
    ]
    assert pairs[0] != pairs[1] != pairs[2]


def test_too_few_rows_for_a_batch() -> None:
    with pytest.raises(UsageError, match="3 training questions for batches of 4"):
        EpochBatches(3, 4, 1, seed=0)
