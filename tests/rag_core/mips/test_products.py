"""The first pass by either way of multiplying: the best rows, with exact scores, whatever order they come in."""

import numpy as np
import pytest
import torch

from rag_core.mips import exact, vectors
from rag_core.mips.products import Asked, DeviceProducts, HostProducts, Products
from rag_core.mips.vectors import ShardVectors
from rag_core.storage import LocalStorage
from tests.rag_core.mips.small_index import assert_same, open_index, reference_search, write_index

CPU = torch.device("cpu")
NONE = np.empty(0, dtype=np.int64)


def fixed_point(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).integers(-512, 513, shape) / 256).astype(np.float32)


def make(kind: str, asked: Asked, rows: int) -> Products:
    if kind == "host":
        return HostProducts(asked, tile_questions=7, rows=rows, pairs=50)
    return DeviceProducts(asked, 7, CPU, 50)


def order(kind: str, stored: np.ndarray, question: np.ndarray) -> np.ndarray:
    """Rows as they are streamed: rising scores of a question replace all that is held, block after block."""
    scores = stored @ question
    match kind:
        case "rising":
            return stored[np.argsort(scores)]
        case "falling":
            return stored[np.argsort(-scores)]
    return stored


@pytest.mark.parametrize("kind", ["host", "device"])
@pytest.mark.parametrize("arranged", ["rising", "falling", "mixed"])
@pytest.mark.parametrize("width", [1, 3, 100])
@pytest.mark.parametrize("block", [1, 50, 64, 150])
def test_best_rows_and_their_exact_scores(kind, arranged, width, block) -> None:
    questions = fixed_point((20, 12), 1)
    stored = order(arranged, fixed_point((150, 12), 2), questions[0]).astype(np.float16)
    gone = np.array([3, 75, 149])
    products = make(kind, Asked(questions, questions, width), block)
    for start in range(0, len(stored), block):
        here = gone[(gone >= start) & (gone < start + block)] - start
        products.add(10_000 + start, stored[start : start + block], here)
    found, scores, rows = products.best()
    expected = (questions.astype(np.float64) @ stored.astype(np.float64).T).astype(np.float32)
    expected[:, gone] = -np.inf
    best = np.sort(expected, axis=1)[:, -width:]
    np.testing.assert_array_equal(np.sort(scores, axis=1), best)
    np.testing.assert_allclose(np.sort(found, axis=1), best, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(np.take_along_axis(expected, rows - 10_000, axis=1), scores)


@pytest.mark.parametrize("kind", ["host", "device"])
def test_places_that_no_row_took_are_empty(kind) -> None:
    questions = fixed_point((4, 5), 1)
    products = make(kind, Asked(questions, questions, 6), 4)
    products.add(0, fixed_point((4, 5), 2), np.array([1]))
    _, scores, rows = products.best()
    assert (np.sort(rows, axis=1) == [-1, -1, -1, 0, 2, 3]).all()
    assert np.isneginf(scores[rows < 0]).all()


def test_search_on_a_device_equals_float64(tmp_path, monkeypatch) -> None:
    """The device's way through the whole search, on a device that this machine has."""
    monkeypatch.setattr(
        exact, "HostProducts", lambda asked, tile, rows, pairs: DeviceProducts(asked, tile, CPU, pairs)
    )
    stored, questions = fixed_point((900, 16), 3).astype(np.float16), fixed_point((30, 16), 4)
    ids = [f"{number:03d}" for number in np.random.default_rng(5).permutation(900)]
    index = open_index(str(tmp_path), write_index(str(tmp_path), ids, stored, [100, 101]))
    found = index.search(questions, 25, memory_bytes=1 << 20)
    assert_same(found, reference_search(ids, stored, questions, 25))


@pytest.mark.parametrize("fits", [True, False])
def test_a_shard_stays_on_the_device_where_it_fits(tmp_path, monkeypatch, fits) -> None:
    monkeypatch.setattr(vectors, "_free_bytes", lambda device: 1 << 30 if fits else 0)
    stored = fixed_point((50, 4), 3)
    manifest = write_index(str(tmp_path), [f"{row:02d}" for row in range(50)], stored)
    shard = ShardVectors(LocalStorage(), str(tmp_path), open_index(str(tmp_path), manifest).shards[0])
    meta = torch.device("meta")  # any device that is not the CPU
    read: list[int] = []
    blocks = ShardVectors.blocks
    monkeypatch.setattr(ShardVectors, "blocks", lambda self, rows: (read.append(rows), blocks(self, rows))[1])
    first = [(row, block.shape) for row, block in shard.blocks_on(meta, 20)]
    second = [(row, block.shape) for row, block in shard.blocks_on(meta, 20)]
    assert first == second == [(0, (20, 4)), (20, (20, 4)), (40, (10, 4))]
    assert len(read) == (1 if fits else 2)
