"""`encode --reuse`: the vectors of passages that have not changed are those of the earlier run."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.dataset.reader import open_dataset
from pipelines.filesystems import STORAGE
from pipelines.transforms import earlier_rows
from pipelines.transforms.reuse import EarlierVectors, content_hashes
from rag_core.encoders import load_passage_encoder
from schemas.embeddings import embeddings_schema
from tests.pipelines.commands import manifest_of, rag_beam, read_table, status_of
from tests.pipelines.conftest import PASSAGE_WORDS, PLACES, World, document_text, write_lines
from tests.rag_core.tiny_encoders import write_dpr_passage_encoder

CHANGED = {3: "text", 11: "title", 25: "text"}


@pytest.fixture(scope="module")
def updated(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Passages of the corpus a night later: a document first that was not there, one gone, some changed."""
    folder = tmp_path_factory.mktemp("updated")
    documents = [{"id": "new", "title": "Kestrel", "text": document_text(99)}]
    for number in range(40):
        if number != 30:
            title, text = PLACES[number % len(PLACES)], document_text(number)
            title += " (town)" * (CHANGED.get(number) == "title")
            text += " It has a new bridge." * (CHANGED.get(number) == "text")
            documents.append({"id": f"d{number}", "title": title, "text": text})
    write_lines(folder / "corpus.jsonl", documents)
    passages = str(folder / "passages")
    rag_beam(
        "chunk",
        "--input",
        str(folder / "corpus.jsonl"),
        "--output",
        passages,
        "--passage_words",
        str(PASSAGE_WORDS),
    )
    return folder / "passages"


def encode(world: World, passages: Path, output: Path, *options: str) -> pa.Table:
    rag_beam(
        *("encode", "--passages", str(passages), "--encoder", str(world.passage_encoder)),
        *("--output", str(output), "--unit_rows", "17", *options),
    )
    return read_table(str(output))


def test_reused_vectors_have_the_bytes_of_a_fresh_run(world: World, updated: Path, tmp_path: Path) -> None:
    fresh = encode(world, updated, tmp_path / "fresh")
    reused = encode(world, updated, tmp_path / "reused", "--reuse", world.made("embeddings"))
    if load_passage_encoder(str(world.passage_encoder)).batch_invariant:
        assert reused.equals(fresh)
    else:  # a matrix library that sums by what else is in the batch
        vectors, expected = (np.array(table.column("vector").to_pylist()) for table in (reused, fresh))
        np.testing.assert_allclose(vectors, expected, rtol=2**-9, atol=1e-4)
    before = {tuple(row.values()) for row in _contents(world.made("passages"))}
    unchanged = sum(tuple(row.values()) in before for row in _contents(str(updated)))
    counts = manifest_of(str(tmp_path / "reused")).counts
    assert counts.extra["reused"] == unchanged
    assert 0 < unchanged < counts.read == counts.accepted == fresh.num_rows
    details = manifest_of(str(tmp_path / "reused")).details
    assert details["reused"]["path"] == world.made("embeddings")
    # equal results: a run with or without it is the same run
    assert (
        manifest_of(str(tmp_path / "reused")).fingerprint == manifest_of(str(tmp_path / "fresh")).fingerprint
    )


def _contents(passages: str) -> list[dict]:
    return read_table(passages).select(["title", "text"]).to_pylist()


def test_what_was_reused_can_be_reused(world: World, updated: Path, tmp_path: Path) -> None:
    first = encode(world, updated, tmp_path / "first", "--reuse", world.made("embeddings"))
    again = encode(world, updated, tmp_path / "again", "--reuse", str(tmp_path / "first"))
    assert again.equals(first)
    assert manifest_of(str(tmp_path / "again")).counts.extra["reused"] == first.num_rows


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--max_tokens", "20"), "max_tokens was 256, is 20"),
        (("--dtype", "bfloat16"), "dtype was 'float32', is 'bfloat16'"),
        (("--vector_dtype", "float32"), "--vector_dtype was float16, is float32"),
    ],
)
def test_vectors_that_this_run_would_not_give_are_refused(
    world: World,
    updated: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ("encode", "--passages", str(updated), "--encoder", str(world.passage_encoder))
    status = status_of(
        *command, "--output", str(tmp_path / "out"), "--reuse", world.made("embeddings"), *options
    )
    message = capsys.readouterr().err
    assert status == 2
    assert expected in message and "encode without it" in message


def test_vectors_of_another_encoder_are_refused(
    world: World, updated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_dpr_passage_encoder(tmp_path / "other", seed=77)
    status = status_of(
        *("encode", "--passages", str(updated), "--encoder", str(other)),
        *("--output", str(tmp_path / "out"), "--reuse", world.made("embeddings")),
    )
    assert status == 2 and "fingerprint was" in capsys.readouterr().err


def test_vectors_made_elsewhere_are_refused(
    world: World, updated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = pa.table(
        {"passage_id": ["a"], "vector": pa.FixedSizeListArray.from_arrays(pa.array([1.0], pa.float32()), 1)}
    )
    pq.write_table(made, tmp_path / "elsewhere.parquet")
    status = status_of(
        *("encode", "--passages", str(updated), "--encoder", str(world.passage_encoder)),
        *("--output", str(tmp_path / "out"), "--reuse", str(tmp_path / "elsewhere.parquet")),
    )
    assert status == 2 and "does not tell its encoder" in capsys.readouterr().err


def test_vectors_are_found_by_content_and_read_where_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files; wanted rows near and far from each other, twice and in any order."""
    monkeypatch.setattr(earlier_rows, "_READ_ON_ROWS", 3)
    texts = [f"text {row}" for row in range(50)]
    hashes = content_hashes(["title"] * 50, texts)
    vectors = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float16)
    schema = embeddings_schema(4, "float16")
    for name, rows in (("a", slice(0, 20)), ("b", slice(20, 50))):
        columns = [
            pa.array(texts[rows]),
            pa.FixedSizeListArray.from_arrays(pa.array(vectors[rows].reshape(-1)), 4),
            pa.array(hashes[rows], schema.field("content_hash").type),
        ]
        pq.write_table(pa.Table.from_arrays(columns, schema=schema), tmp_path / f"{name}.parquet")
    earlier = EarlierVectors(open_dataset(STORAGE, str(tmp_path), "embeddings"))
    wanted = [49, 0, 18, 19, 20, 21, 5, 5, 30, 33]
    unknown = content_hashes(["other title", "title", ""], ["text 0", "text 50", "title\0text 0"])
    found = earlier.find([*(hashes[row] for row in wanted), *unknown])
    assert found.tolist() == [*wanted, -1, -1, -1]
    assert np.array_equal(earlier.take(np.array(wanted)), vectors[wanted])
