"""Rows that are gone: written, proved, and never found by the exact search."""

import numpy as np
import pytest

from rag_core.errors import UsageError
from rag_core.mips.deletions import read_gone, write_gone
from rag_core.mips.search_result import SearchResult
from rag_core.storage import LocalStorage
from tests.rag_core.mips.small_index import assert_same, open_index, reference_search, write_index

STORAGE = LocalStorage()


def entry(folder, rows, name: str = "gone.npy") -> dict:
    checksum = write_gone(STORAGE, str(folder), name, np.asarray(rows))
    return {"name": name, **checksum.to_json()}


def test_what_is_written_is_read(tmp_path) -> None:
    index = {"rows": 10, "gone": entry(tmp_path, [0, 4, 9])}
    assert read_gone(STORAGE, str(tmp_path), index).tolist() == [0, 4, 9]
    assert read_gone(STORAGE, str(tmp_path), {"rows": 10}).tolist() == []


@pytest.mark.parametrize(
    ("rows", "message"), [([0, 10], "of an index of 10 rows"), ([4, 2], "ascending"), ([[1]], "ascending")]
)
def test_rows_of_another_index_are_refused(tmp_path, rows, message) -> None:
    with pytest.raises(UsageError, match=f"gone.npy.*{message}"):
        read_gone(STORAGE, str(tmp_path), {"rows": 10, "gone": entry(tmp_path, rows)})


def test_a_damaged_file_and_a_name_that_leads_out_are_refused(tmp_path) -> None:
    gone = entry(tmp_path, [1, 2])
    content = bytearray((tmp_path / "gone.npy").read_bytes())
    content[-1] ^= 1
    (tmp_path / "gone.npy").write_bytes(content)
    with pytest.raises(UsageError, match=r"gone\.npy: damaged"):
        read_gone(STORAGE, str(tmp_path), {"rows": 10, "gone": gone})
    with pytest.raises(UsageError, match="plain file name"):
        read_gone(STORAGE, str(tmp_path), {"rows": 10, "gone": gone | {"name": "../gone.npy"}})


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 0.999])
@pytest.mark.parametrize("near_ties", [False, True])
def test_exact_search_is_that_of_an_index_without_them(tmp_path, share, near_ties) -> None:
    """Near ties go through the second pass of the search too."""
    rng = np.random.default_rng(1)
    vectors = (rng.integers(-512, 513, (2_000, 12)) / 256).astype(np.float32)
    if near_ties:
        vectors = np.repeat(vectors[:1], 2_000, axis=0)
        vectors[:, 0] += (rng.integers(-4, 5, 2_000) * 2.0**-20).astype(np.float32)
    questions = (rng.integers(-512, 513, (9, 12)) / 256).astype(np.float32)
    ids = [f"{row:04d}" for row in rng.permutation(2_000)]
    gone = np.flatnonzero(rng.random(2_000) < share)
    live = np.setdiff1d(np.arange(2_000), gone)
    manifest = write_index(str(tmp_path), ids, vectors, [300, 301, 1_500])
    index = open_index(str(tmp_path), manifest | {"gone": entry(tmp_path, gone)})
    assert index.live_rows == len(live)
    expected = reference_search([ids[row] for row in live], vectors[live], questions, 15)
    expected = SearchResult(expected.scores, live[expected.rows])

    assert_same(index.search(questions, 15, memory_bytes=1 << 20), expected)
    tiles = [index.search(questions, 15, memory_bytes=1 << 20, shards=[number]) for number in (3, 1, 0, 2)]
    assert_same(index.merge(tiles, 15), expected)
