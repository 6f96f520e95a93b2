"""Taking passages by row."""

import threading

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_core.mips.passage_store import PassageStore
from rag_core.mips.shard import ShardInfo
from rag_core.storage import LocalStorage
from tests.rag_core.mips.small_index import passages, write_index

IDS = [f"p{number}" for number in range(500)]
TABLE = pa.Table.from_batches([passages(IDS)])


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> PassageStore:
    folder = str(tmp_path_factory.mktemp("index"))
    manifest = write_index(folder, IDS, np.ones((500, 2), np.float16), [1, 130, 322])
    return PassageStore(LocalStorage(), folder, [ShardInfo.from_json(shard) for shard in manifest["shards"]])


@settings(deadline=None, max_examples=50)
@given(rows=st.lists(st.integers(0, 499), max_size=80))
def test_rows_come_in_the_order_asked_with_repeats(store, rows) -> None:
    asked = np.array(rows, dtype=np.int64)
    assert store.take(asked).equals(TABLE.take(asked))
    assert store.ids(asked) == [IDS[row] for row in rows]


def test_every_row(store) -> None:
    assert store.take(np.arange(500)).equals(TABLE)


def test_no_rows_give_an_empty_table_with_the_columns(store) -> None:
    assert store.take(np.array([], dtype=np.int64)).equals(TABLE.slice(0, 0))


@pytest.mark.parametrize("row", [-1, 500])
def test_rows_outside_are_refused(store, row) -> None:
    with pytest.raises(IndexError, match="index of 500 rows"):
        store.take(np.array([3, row]))


def test_several_threads(store) -> None:
    rows = [np.random.default_rng(seed).integers(0, 500, 200) for seed in range(8)]
    found: dict[int, pa.Table] = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: store.take(rows[n])})) for n in range(len(rows))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, asked in enumerate(rows):
        assert found[number].equals(TABLE.take(asked))
