"""Approximate search: candidates from FAISS, scores from the stored vectors, nothing that is not there."""

import dataclasses
from collections.abc import Callable

import faiss
import numpy as np
import pytest

from rag_core.errors import UsageError
from rag_core.mips import approximate
from rag_core.mips.approximate import Effort, search_codes
from rag_core.mips.codes import add_codes, train
from rag_core.mips.deletions import NO_ROWS
from rag_core.mips.factory import Factory
from rag_core.mips.index import MipsIndex
from rag_core.storage import LocalStorage
from tests.rag_core.mips.small_index import open_index, reference_search, write_index

MEMORY = 64 << 20
ROWS, DIMENSION = 4_000, 32
STORAGE = LocalStorage()
ALL = Effort(nprobe=16, ef_search=600, refine_factor=64)
# what the issue names, at a size that trains in a moment
FACTORIES = [
    "HNSW16",
    "HNSW16_SQ8",
    "IVF16,Flat",
    "IVF16_HNSW8,Flat",
    "IVF16,SQ8",
    "IVF16,SQfp16",
    "IVF16,PQ16x4,RFlat",
    "IVF16,PQ16x4fs,RFlat",
    "OPQ2,IVF16,PQ16x4fs,RFlat",
    "PCA16,IVF16,SQ8,RFlat",
    "SQ8",
    "SQfp16",
    "PQ16x4,RFlat",
    "PQ16x4fs,RFlat",
]


def clustered(rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((16, DIMENSION))
    vectors = centres[rng.integers(0, 16, rows)] + 0.5 * rng.standard_normal((rows, DIMENSION))
    return (np.round(vectors * 256) / 256).astype(np.float32)


VECTORS = clustered(ROWS, 1)
QUESTIONS = clustered(40, 2)
IDS = [f"{number:05d}" for number in np.random.default_rng(3).permutation(ROWS)]


def build(folder, factory: str) -> dict:
    """Writes an index; returns its manifest's index object."""
    manifest = write_index(str(folder), IDS, VECTORS, (800, 2_800))
    parsed = Factory.parse(factory, DIMENSION)
    sample = VECTORS if parsed.train_rows_required() <= ROWS else clustered(parsed.train_rows_required(), 1)
    manifest = add_codes(STORAGE, str(folder), manifest, parsed, sample)
    return manifest | {"effort": ALL.to_json()}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Callable[..., MipsIndex]:
    """Opens an index of a factory, with an effort and rows that are gone; each is built once."""
    made: dict[str, tuple[str, dict]] = {}

    def opened(factory: str, effort: Effort = ALL, gone: np.ndarray = NO_ROWS) -> MipsIndex:
        if factory not in made:
            folder = str(tmp_path_factory.mktemp("index"))
            made[factory] = folder, build(folder, factory)
        folder, manifest = made[factory]
        return MipsIndex(STORAGE, folder, open_index(folder, manifest).shards, {}, effort, gone)

    return opened


@pytest.mark.parametrize("factory", FACTORIES)
def test_with_every_effort_the_exact_result_comes_back_from_any_factory(built, factory) -> None:
    index = built(factory)
    found = index.search(QUESTIONS, 10, memory_bytes=MEMORY)
    expected = reference_search(IDS, VECTORS, QUESTIONS, 10)
    shared = [len(set(a) & set(b)) for a, b in zip(found.rows, expected.rows, strict=True)]
    assert np.mean(shared) / 10 > 0.97
    whole = np.array(shared) == 10
    assert whole.mean() > 0.8
    np.testing.assert_array_equal(found.rows[whole], expected.rows[whole])
    np.testing.assert_array_equal(found.scores[whole], expected.scores[whole])


@pytest.mark.parametrize("factory", FACTORIES)
def test_scores_are_exact_and_ordered_whatever_was_found(built, factory) -> None:
    index = built(factory, Effort(nprobe=1))
    found = index.search(QUESTIONS, 10, memory_bytes=MEMORY)
    products = np.einsum(
        "bkd,bd->bk", VECTORS[found.rows].astype(np.float64), QUESTIONS.astype(np.float64)
    ).astype(np.float32)
    np.testing.assert_array_equal(found.scores, np.where(found.rows < 0, -np.inf, products))
    assert (np.diff(found.scores, axis=1) <= 0).all() or (found.rows < 0).any()


def test_places_that_nothing_was_found_for_are_empty_and_not_the_last_passage(built) -> None:
    index = built("IVF16,Flat", Effort(nprobe=1))
    found = index.search(QUESTIONS, 1_200, memory_bytes=MEMORY)
    missing = found.rows < 0
    assert missing.any(axis=1).all()  # a list holds fewer rows than that
    assert (found.rows[missing] == -1).all()
    assert np.isneginf(found.scores[missing]).all()
    assert (np.diff(missing.astype(int), axis=1) >= 0).all()  # in the last places
    for row in found.rows:
        present = row[row >= 0]
        assert len(set(present)) == len(present)


@pytest.mark.parametrize("factory", FACTORIES)
def test_rows_that_are_gone_are_not_found(built, factory) -> None:
    index = built(factory)
    best = index.search(QUESTIONS, 10, memory_bytes=MEMORY).rows
    gone = np.unique(best[:, :7])
    found = built(factory, ALL, gone).search(QUESTIONS, 10, memory_bytes=MEMORY)
    assert not np.isin(found.rows, gone).any()
    live = np.setdiff1d(np.arange(ROWS), gone)
    expected = reference_search([IDS[row] for row in live], VECTORS[live], QUESTIONS, 10)
    shared = [len(set(a) & set(live[b])) for a, b in zip(found.rows, expected.rows, strict=True)]
    assert np.mean(shared) / 10 > 0.95


def test_shards_searched_apart_and_merged_are_the_index_searched_whole(built) -> None:
    index = built("IVF16,Flat")
    whole = index.search(QUESTIONS, 10, memory_bytes=MEMORY)
    tiles = [index.search(QUESTIONS, 10, memory_bytes=MEMORY, shards=[number]) for number in (2, 0, 1)]
    merged = index.merge(tiles, 10)
    np.testing.assert_array_equal(merged.rows, whole.rows)
    np.testing.assert_array_equal(merged.scores, whole.scores)


def test_an_approximate_index_can_be_searched_exactly(built) -> None:
    index = built("IVF16,PQ16x4fs,RFlat", Effort())
    found = index.search(QUESTIONS, 10, memory_bytes=MEMORY, exact=True)
    expected = reference_search(IDS, VECTORS, QUESTIONS, 10)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_little_memory_holds_one_shard_at_a_time_and_finds_the_same(built, monkeypatch) -> None:
    index = built("IVF16,SQ8")
    kept = index.search(QUESTIONS, 10, memory_bytes=MEMORY)
    keeps = []
    monkeypatch.setattr(
        approximate.ShardCodes,
        "load",
        lambda self, keep, load=approximate.ShardCodes.load: (keeps.append(keep), load(self, keep=keep))[1],
    )
    found = built("IVF16,SQ8").search(QUESTIONS, 10, memory_bytes=index.code_bytes)
    assert keeps
    assert not any(keeps)
    np.testing.assert_array_equal(found.rows, kept.rows)


def test_a_shard_of_another_training_is_refused(tmp_path) -> None:
    manifest = build(tmp_path, "IVF16,Flat")
    manifest["shards"][1]["trained_sha256"] = "0" * 64
    with pytest.raises(UsageError, match="shard-00001 is of the training '000"):
        open_index(str(tmp_path), manifest)


@pytest.mark.parametrize("damage", ["flip", "short", "missing", "another shard's"])
def test_damaged_codes_are_refused_by_name(tmp_path, damage) -> None:
    manifest = build(tmp_path, "IVF16,Flat")
    path = tmp_path / "shard-00001.faiss"
    content = bytearray(path.read_bytes())
    match damage:
        case "flip":
            content[len(content) // 2] ^= 1
        case "short":
            content = content[:-1]
        case "another shard's":
            content = bytearray((tmp_path / "shard-00000.faiss").read_bytes())
    path.unlink()
    if damage != "missing":
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"shard-00001\.faiss"):
        open_index(str(tmp_path), manifest).search(QUESTIONS, 10, memory_bytes=MEMORY)


def test_faiss_asks_for_more_where_many_of_the_best_are_gone() -> None:
    index = train(Factory.parse("SQfp16", DIMENSION), VECTORS)
    index.add(VECTORS)
    order = np.argsort(-(QUESTIONS[:1] @ VECTORS.T))[0]
    gone = np.zeros(ROWS, dtype=bool)
    gone[order[:500]] = True
    products, rows = search_codes(index, QUESTIONS[:1], 5, Effort(), gone)
    assert set(rows[0]) == set(order[500:505])
    assert np.isfinite(products).all()


def test_a_shard_smaller_than_the_width_is_padded() -> None:
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(VECTORS[:3])
    products, rows = search_codes(index, QUESTIONS, 5, Effort(), np.zeros(3, dtype=bool))
    assert sorted(rows[0].tolist()) == [-1, -1, 0, 1, 2]
    assert np.isneginf(products[rows < 0]).all()


@pytest.mark.parametrize(
    "entry", [None, {}, {"nprobe": 1}, {"nprobe": 0, "ef_search": 1, "refine_factor": 1}]
)
def test_an_effort_that_is_none_is_refused(entry) -> None:
    with pytest.raises(UsageError, match="here: effort is expected"):
        Effort.from_json(entry, "here")


def test_an_effort_survives_its_manifest() -> None:
    assert Effort.from_json(dataclasses.asdict(ALL), "here") == ALL
