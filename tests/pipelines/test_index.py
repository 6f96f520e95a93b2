"""`index` beyond the exact one: factories, tuning, the stated price, growing, deleting, and damage to all that."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.dataset.target import WORK
from pipelines.filesystems import STORAGE
from pipelines.transforms import shards as shards_module
from pipelines.transforms.search import open_index
from pipelines.transforms.vectors import vector_column
from rag_core.mips.approximate import Effort
from schemas import TABLES
from tests.pipelines.commands import manifest_of, rag_beam, read_rejects, read_table, status_of
from tests.pipelines.conftest import World
from tests.rag_core.mips.small_index import reference_search

DIMENSION = 16
RNG = np.random.default_rng(0)
VECTORS = (RNG.integers(-512, 513, (3_000, DIMENSION)) / 256).astype(np.float16)
QUESTIONS = (RNG.integers(-512, 513, (20, DIMENSION)) / 256).astype(np.float32)
IDS = [f"p{row:04d}" for row in RNG.permutation(3_000)]
MEMORY = 64 << 20


def write_inputs(folder: Path, name: str, rows: slice) -> dict[str, str]:
    """Embeddings and passages of some rows, as Parquet made elsewhere; returns the options that name them."""
    ids = IDS[rows]
    passages = {
        "passage_id": ids,
        "document_id": ids,
        "passage_number": [0] * len(ids),
        "title": ids,
        "text": [f"text of {passage_id}" for passage_id in ids],
    }
    embeddings = pa.RecordBatch.from_arrays(
        [pa.array(ids), vector_column(VECTORS[rows])], names=["passage_id", "vector"]
    )
    paths = {table: str(folder / f"{name}-{table}.parquet") for table in ("embeddings", "passages")}
    pq.write_table(pa.table(passages, schema=TABLES["passages"]), paths["passages"])
    pq.write_table(pa.Table.from_batches([embeddings]), paths["embeddings"])
    return paths


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, str]:
    return write_inputs(tmp_path, "all", slice(0, 3_000))


@pytest.fixture
def out(tmp_path: Path) -> str:
    return str(tmp_path / "index")


def details(index: str) -> dict[str, Any]:
    return manifest_of(index).details["index"]


def found_ids(index: str, n_docs: int, **search: Any) -> list[list[str]]:
    opened = open_index(index)
    found = opened.search(QUESTIONS, n_docs, memory_bytes=MEMORY, **search)
    return [opened.passage_ids(rows) for rows in found.rows]


def expected_ids(rows: np.ndarray, n_docs: int) -> list[list[str]]:
    ids = [IDS[row] for row in rows]
    found = reference_search(ids, VECTORS[rows], QUESTIONS, n_docs)
    return [[ids[row] for row in question] for question in found.rows]


@pytest.mark.parametrize(
    "factory",
    [
        "IVF16,PQ8x4fs,RFlat",
        *(pytest.param(text, marks=pytest.mark.slow) for text in ("HNSW8", "IVF16,SQ8", "PQ8x4,RFlat")),
    ],
)
def test_an_approximate_index_states_its_price(inputs, out, capsys, factory) -> None:
    rag_beam("index", **inputs, output=out, factory=factory, shard_rows=1_000, sample_questions=50)
    index = details(out)
    assert index["factory"] == factory
    price = index["price"]
    assert [item["k"] for item in price["recalls"]] == [1, 5, 20, 100]
    for item in price["recalls"]:
        assert 0 <= item["ci_low"] <= item["value"] <= item["ci_high"] <= 1
        assert item["questions"] == 50
    codes = sum(shard["files"][f"{shard['name']}.faiss"]["bytes"] for shard in index["shards"])
    assert price["code_bytes_per_vector"] == pytest.approx(codes / 3_000)
    assert price["stored_bytes_per_vector"] == 2 * DIMENSION
    assert price["build_seconds"] > 0
    assert price["peak_bytes"] > 0
    assert {shard["trained_sha256"] for shard in index["shards"]} == {index["trained"]["sha256"]}
    assert not Path(out, WORK).exists()

    capsys.readouterr()
    rag_beam("inspect", out)
    shown = capsys.readouterr().out
    assert f"index: {factory}, 3,000 vectors of 16 float16" in shown
    for item in price["recalls"]:
        assert f"recall@{item['k']}: {item['value']:.4f}" in shown
    rag_beam("index", **inputs, output=out, factory=factory, shard_rows=1_000, sample_questions=50)
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.slow
def test_the_stated_recall_is_what_others_measure(inputs, out) -> None:
    rag_beam(
        "index", **inputs, output=out, factory="IVF16,SQ8", min_recall=0.8, recall_at=5, sample_questions=200
    )
    stated = {item["k"]: item for item in details(out)["price"]["recalls"]}[5]
    exact, found = found_ids(out, 5, exact=True), found_ids(out, 5)
    assert exact == expected_ids(np.arange(3_000), 5)
    shared = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(found, exact, strict=True)])
    assert abs(shared - stated["value"]) < 0.2  # 20 questions here, 200 there
    assert stated["value"] > 0.75


def test_an_index_under_the_floor_is_refused(inputs, out, capsys) -> None:
    status = status_of("index", **inputs, output=out, factory="PQ2x4", min_recall=0.95, sample_questions=50)
    assert status == 2
    error = capsys.readouterr().err
    assert "--factory PQ2x4: reaches recall@20 0." in error
    assert "--min_recall asks for 0.95" in error
    assert not Path(out, "manifest.json").exists()


def test_too_few_vectors_to_train_on_is_an_error_that_says_how_many_are_needed(inputs, out, capsys) -> None:
    assert status_of("index", **inputs, output=out, factory="IVF128,Flat") == 2
    assert "needs at least 4,992 vectors to train on, got 3,000" in capsys.readouterr().err
    assert status_of("index", **inputs, output=out, factory="IVF16,Flat", train_rows=600) == 2
    assert "needs at least 624 vectors to train on, got 600" in capsys.readouterr().err
    assert not Path(out).exists()


def test_a_factory_that_faiss_does_not_know(inputs, out, capsys) -> None:
    assert status_of("index", **inputs, output=out, factory="IVFFlat") == 2
    assert "--factory IVFFlat: FAISS cannot make it" in capsys.readouterr().err


def test_auto_prints_and_records_its_table(inputs, out, capsys, monkeypatch) -> None:
    monkeypatch.setattr("rag_core.mips.auto._LEAST_ROWS", 1_000)
    rag_beam("index", **inputs, output=out, factory="auto", min_recall=0.9, sample_questions=50)
    shown = capsys.readouterr().out
    index = details(out)
    tried = [trial["factory"] for trial in index["choice"]]
    assert tried[:2] == ["Flat", "HNSW32"]
    assert all(f"index: {factory}" in shown for factory in tried)
    assert f"--factory auto is {index['factory']}" in shown
    assert index["factory"] in tried
    assert ("price" in index) == (index["factory"] != "Flat")


@pytest.mark.slow
def test_auto_of_a_small_corpus_is_exact(inputs, out) -> None:
    rag_beam("index", **inputs, output=out, factory="auto")
    assert details(out)["factory"] == "Flat"
    assert found_ids(out, 5) == expected_ids(np.arange(3_000), 5)


@pytest.mark.slow
def test_real_questions_tune_it(world: World, out, capsys) -> None:
    made = {name: world.made(name) for name in ("embeddings", "passages")}
    questions = {"questions": str(world.questions), "factory": "SQfp16", "sample_questions": 10}
    assert status_of("index", **made, output=out, **questions) == 2
    assert "--questions: give --encoder too" in capsys.readouterr().err
    rag_beam("index", **made, output=out, encoder=str(world.question_encoder), **questions)
    assert details(out)["price"]["questions"] == "--questions"
    assert manifest_of(out).inputs[-1].path == str(world.questions)


@pytest.mark.parametrize("factory", ["IVF16,Flat", pytest.param("Flat", marks=pytest.mark.slow)])
def test_an_index_grows_and_loses_passages(tmp_path, out, capsys, factory) -> None:
    first = write_inputs(tmp_path, "first", slice(0, 2_000))
    rag_beam("index", **first, output=out, factory=factory, shard_rows=1_500, sample_questions=50)
    fingerprints = [manifest_of(out).fingerprint]
    search = {"exact": True} if factory == "Flat" else {"effort": Effort(nprobe=16)}

    second = write_inputs(tmp_path, "second", slice(1_995, 3_000))  # five are there already
    rag_beam("index", **second, append=True, output=out, sample_questions=50)
    fingerprints.append(manifest_of(out).fingerprint)
    assert manifest_of(out).counts.rejected == {"duplicate_id": 5}
    assert {row["record_id"] for row in read_rejects(out)} == set(IDS[1_995:2_000])
    assert [shard["rows"] for shard in details(out)["shards"]] == [1_500, 500, 1_000]
    assert found_ids(out, 10, **search) == expected_ids(np.arange(3_000), 10)

    best = {ids[0] for ids in expected_ids(np.arange(3_000), 1)}
    names = tmp_path / "gone.txt"
    names.write_text("\n".join([*sorted(best), "nobody", "", sorted(best)[0]]) + "\n")
    rag_beam("index", delete=str(names), output=out)
    fingerprints.append(manifest_of(out).fingerprint)
    counts = manifest_of(out).counts
    assert counts.accepted == len(best)
    assert (counts.rejected, counts.left_out) == ({"unknown_id": 1}, {"already_gone": 1, "empty_line": 1})
    live = np.array([row for row in range(3_000) if IDS[row] not in best])
    assert found_ids(out, 10, **search) == expected_ids(live, 10)

    # a passage that went comes back with another vector
    back = write_inputs(tmp_path, "back", slice(IDS.index(min(best)), IDS.index(min(best)) + 1))
    rag_beam("index", **back, append=True, output=out, sample_questions=50)
    fingerprints.append(manifest_of(out).fingerprint)
    live = np.array([row for row in range(3_000) if IDS[row] not in best or IDS[row] == min(best)])
    assert found_ids(out, 10, **search) == expected_ids(live, 10)
    assert len(set(fingerprints)) == 4
    assert [growth["kind"] for growth in details(out)["growth"]] == ["append", "delete", "append"]

    capsys.readouterr()
    rag_beam("index", **back, append=True, output=out, sample_questions=50)
    assert "nothing to do" in capsys.readouterr().out
    names_left = {path.name for path in Path(out).iterdir() if path.is_file()} - {".lock"}
    assert names_left == {part.name for part in manifest_of(out).parts} | {"manifest.json"}


def test_a_growth_that_is_killed_leaves_the_index_as_it_was(tmp_path, out, monkeypatch) -> None:
    first = write_inputs(tmp_path, "first", slice(0, 2_000))
    second = write_inputs(tmp_path, "second", slice(2_000, 3_000))
    rag_beam("index", **first, output=out)
    before = manifest_of(out)
    with monkeypatch.context() as broken:
        broken.setattr(shards_module, "write_shard", _no_space)
        assert status_of("index", **second, append=True, output=out) == 1
    assert manifest_of(out) == before
    assert found_ids(out, 10) == expected_ids(np.arange(2_000), 10)
    rag_beam("index", **second, append=True, output=out)
    assert found_ids(out, 10) == expected_ids(np.arange(3_000), 10)


def _no_space(*arguments: Any, **options: Any) -> None:
    raise OSError(28, "No space left on device")


def test_too_many_repeated_passages_leave_the_index_as_it_was(tmp_path, inputs, out, capsys) -> None:
    rag_beam("index", **inputs, output=out)
    before = manifest_of(out)
    again = write_inputs(tmp_path, "again", slice(0, 500))
    assert status_of("index", **again, append=True, output=out) == 1
    assert "500 of 500 records were rejected (duplicate_id 500)" in capsys.readouterr().err
    assert manifest_of(out) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give --embeddings and --passages, or --delete"),
        ({"delete": "nowhere.txt"}, "--delete nowhere.txt: no such file"),
        ({"delete": "nowhere.txt", "append": True}, "--append in a run of its own"),
    ],
)
def test_options_that_do_not_go_together(inputs, out, capsys, options, message) -> None:
    rag_beam("index", **inputs, output=out)
    assert status_of("index", output=out, **options) == 2
    assert message in capsys.readouterr().err


def test_vectors_of_another_kind_are_not_appended(tmp_path, inputs, out, capsys) -> None:
    rag_beam("index", **inputs, output=out)
    other = write_inputs(tmp_path, "other", slice(0, 10))
    wide = pa.RecordBatch.from_arrays(
        [pa.array(IDS[:10]), vector_column(VECTORS[:10].astype(np.float32))],
        names=["passage_id", "vector"],
    )
    pq.write_table(pa.Table.from_batches([wide]), other["embeddings"])
    assert status_of("index", **other, append=True, output=out) == 2
    assert "holds float32 vectors of 16 dimensions" in capsys.readouterr().err
    assert status_of("index", **other, append=True, output=str(tmp_path / "none")) == 2
    assert "no such index" in capsys.readouterr().err


@pytest.fixture(scope="module")
def whole_index(world: World, tmp_path_factory) -> str:
    """An approximate index of the small world that has lost a passage."""
    folder = tmp_path_factory.mktemp("whole")
    made = {name: world.made(name) for name in ("embeddings", "passages")}
    index = str(folder / "index")
    rag_beam("index", **made, output=index, factory="SQfp16,RFlat", shard_rows=60, sample_questions=10)
    names = folder / "gone.txt"
    names.write_text(read_table(made["passages"]).column("passage_id")[0].as_py() + "\n")
    rag_beam("index", delete=str(names), output=index)
    return index


@pytest.mark.parametrize("victim", ["shard-00001.faiss", "gone-00001.npy", "shard-00000.vectors.npy"])
@pytest.mark.parametrize(
    "damage",
    ["flip", *(pytest.param(damage, marks=pytest.mark.slow) for damage in ("missing", "another index's"))],
)
def test_a_damaged_index_answers_nothing(
    world: World, whole_index, tmp_path, out, capsys, victim, damage
) -> None:
    shutil.copytree(whole_index, out)
    path = Path(out, victim)
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flip":
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "another index's":
        path.write_bytes(bytes(len(content)))
    answers = tmp_path / "retrievals"
    status = status_of(
        "retrieve",
        index=out,
        questions=str(world.questions),
        encoder=str(world.question_encoder),
        output=str(answers),
    )
    assert status == 2
    assert victim in capsys.readouterr().err
    assert not list(answers.glob("part-*"))


def test_an_approximate_retrieval_by_the_options(world: World, whole_index, tmp_path, capsys) -> None:
    ask = {
        "index": whole_index,
        "questions": str(world.questions),
        "encoder": str(world.question_encoder),
        "n_docs": 5,
    }
    rag_beam("retrieve", **ask, output=str(tmp_path / "exact"), exact=True)
    rag_beam("retrieve", **ask, output=str(tmp_path / "wide"), refine_factor=16)
    rag_beam("retrieve", **ask, output=str(tmp_path / "tiled"), exact=True, shard_tiles=2)
    exact = read_table(tmp_path / "exact")
    assert exact.num_rows > 0
    assert read_table(tmp_path / "wide").equals(exact)  # sixteen times five candidates are most of the index
    assert read_table(tmp_path / "tiled").equals(exact)
    assert manifest_of(tmp_path / "wide").settings["effort"]["refine_factor"] == 16
    assert manifest_of(tmp_path / "exact").settings["effort"] is None
    index = world.made("index")
    assert status_of("retrieve", **ask | {"index": index}, output=str(tmp_path / "no"), nprobe=2) == 2
    assert "--nprobe: belongs to an approximate search" in capsys.readouterr().err


def test_a_retrieval_may_have_fewer_passages_than_asked_for(world: World, tmp_path, out) -> None:
    made = {name: world.made(name) for name in ("embeddings", "passages")}
    rows = len(read_table(made["embeddings"]))
    rag_beam("index", **made, output=out, factory="IVF2,Flat", sample_questions=10, train_rows=rows)
    ask = {"index": out, "questions": str(world.questions), "encoder": str(world.question_encoder)}
    rag_beam("retrieve", **ask, output=str(tmp_path / "r"), n_docs=rows, nprobe=1)
    counts = [len(row) for row in read_table(tmp_path / "r").column("passages").to_pylist()]
    assert 0 < min(counts) < rows
    assert all(
        row["score"] > -np.inf
        for passages in read_table(tmp_path / "r").column("passages").to_pylist()
        for row in passages
    )


def test_the_manifest_is_readable_json(whole_index) -> None:
    with STORAGE.open(f"{whole_index}/manifest.json") as file:
        index = json.loads(file.read())["details"]["index"]
    assert {"effort", "tuning", "price", "trained", "growth"} <= set(index)
