import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_core.encoders.batching import token_budget_batches
from rag_core.errors import UsageError


@settings(deadline=None, max_examples=200)
@given(lengths=st.lists(st.integers(1, 60), max_size=80), batch_tokens=st.integers(1, 300))
def test_every_row_is_in_one_batch_within_the_budget(lengths: list[int], batch_tokens: int) -> None:
    batches = list(token_budget_batches(np.array(lengths, dtype=np.int64), batch_tokens))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert longest * len(batch) <= batch_tokens or len(batch) == 1


def test_batches_hold_rows_of_like_length_longest_first() -> None:
    batches = token_budget_batches(np.array([3, 9, 3, 10, 3, 4]), batch_tokens=10)
    # 10 alone; 9 alone (two would be 18); then 4 and the first 3 (8 tokens); the other 3s in their order
    assert [batch.tolist() for batch in batches] == [[3], [1], [5, 0], [2, 4]]


def test_a_row_above_the_budget_is_a_batch_of_its_own() -> None:
    batches = token_budget_batches(np.array([7, 100, 7]), batch_tokens=14)
    assert [batch.tolist() for batch in batches] == [[1], [0, 2]]


def test_no_rows_make_no_batches() -> None:
    assert list(token_budget_batches(np.array([], dtype=np.int64), batch_tokens=10)) == []


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="--batch_tokens 0: expected at least 1"):
        list(token_budget_batches(np.array([1]), batch_tokens=0))
