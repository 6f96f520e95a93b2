"""`rag-beam verify` of a MIPS index: whole, grown and approximate ones, and damage to them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.pipelines.commands import rag_beam
from tests.pipelines.conftest import World, write_lines
from tests.pipelines.damage import copied, edit_manifest, flip_byte, list_file_again, verify

VECTORS, PASSAGES = "shard-00000.vectors.npy", "shard-00000.passages.arrow"


def rewrite_vectors(folder: Path, row: int, value: float) -> None:
    """One number of a shard's vectors, with the manifest made to fit."""
    vectors = np.load(folder / VECTORS)
    vectors[row, 0] = value
    np.save(folder / VECTORS, vectors)
    list_file_again(folder, VECTORS)


def rewrite_passages(folder: Path, change: Any, batch_rows: int = 64) -> None:
    """A shard's passages, with the manifest made to fit."""
    with pa.memory_map(str(folder / PASSAGES)) as mapping:
        table = change(pa.ipc.open_file(mapping).read_all().combine_chunks())
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with (
        pa.OSFile(str(folder / PASSAGES), "wb") as file,
        pa.ipc.new_file(file, table.schema, options=options) as writer,
    ):
        writer.write_table(table, max_chunksize=batch_rows)
    list_file_again(folder, PASSAGES)


def with_id(table: pa.Table, row: int, other: int) -> pa.Table:
    ids = table.column("passage_id").to_pylist()
    ids[row] = ids[other]
    return table.set_column(0, table.schema.field(0), pa.array(ids))


@pytest.mark.parametrize("name", [VECTORS, PASSAGES, "shard-00001.vectors.npy"])
def test_a_damaged_shard(whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, name: str) -> None:
    folder = copied(whole_run / "index", tmp_path)
    flip_byte(folder / name, 500)
    said = verify(capsys, folder)
    assert said.status == 1 and "files" in said.failed
    assert f"{folder}/{name}: its content has SHA-256" in said.text


@pytest.mark.parametrize("name", [VECTORS, PASSAGES])
def test_a_missing_and_a_truncated_shard(
    whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, name: str
) -> None:
    folder = copied(whole_run / "index", tmp_path)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-100])
    said = verify(capsys, folder)
    assert said.status == 1 and {"files", "index"} <= said.failed
    (folder / name).unlink()
    said = verify(capsys, folder)
    assert said.status == 1
    assert f"{folder}/{name}: is missing, though the manifest lists it" in said.text


def test_vectors_that_are_not_finite_too_long_or_others(
    whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = copied(whole_run / "index", tmp_path)
    rewrite_vectors(folder, 3, np.nan)
    said = verify(capsys, folder)
    assert said.failed == {"vectors", "order"}
    assert f"{folder}/{VECTORS}: the vector of row 3 holds NaN or infinity" in said.text
    rewrite_vectors(folder, 3, 1_000)
    said = verify(capsys, folder)
    assert said.failed == {"vectors", "order"}
    assert "has the norm 100" in said.text and "searches would not be exact" in said.text
    rewrite_vectors(folder, 3, 0)
    said = verify(capsys, folder)
    assert said.failed == {"order"}
    assert f"{folder}: row 3 has another vector than {whole_run}/embeddings has" in said.text


def test_a_damaged_offset_table(whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = copied(whole_run / "index", tmp_path)
    flip_byte(folder / PASSAGES, -8)  # the length of the footer
    list_file_again(folder, PASSAGES)
    said = verify(capsys, folder)
    assert said.status == 1 and "passages" in said.failed
    assert f"{folder}/{PASSAGES}: its offset table cannot be read" in said.text


def test_passages_in_other_batches_fewer_or_twice(
    whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = copied(whole_run / "index", tmp_path)
    rewrite_passages(folder, lambda table: table)
    assert verify(capsys, folder).status == 0
    rewrite_passages(folder, lambda table: table, batch_rows=40)
    said = verify(capsys, folder)
    assert said.failed == {"passages"}
    assert f"{folder}/{PASSAGES}: batch 0 of its offset table has 40 rows, expected 64" in said.text
    rewrite_passages(folder, lambda table: with_id(table, 66, 5))
    said = verify(capsys, folder)
    assert said.failed == {"ids", "order"}
    assert f"{folder}/{PASSAGES}: row 66: passage_id 'd2#1' stands in row 5" in said.text
    rewrite_passages(folder, lambda table: table.slice(0, 60))
    said = verify(capsys, folder)
    assert "passages" in said.failed and "holds 60 passages for 70 vectors" in said.text


def set_first(name: str, value: Any) -> Any:
    return lambda manifest: manifest["details"]["index"]["shards"][0].update({name: value})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_first("name", "../shard"), "a shard's name is letters"),
        (set_first("name", "/etc/passwd"), "a shard's name is letters"),
        (set_first("rows", 71), "shards have 81 rows, expected rows 80"),
        (set_first("dimension", 8), "dimension 8"),
        (set_first("vector_dtype", "float32"), "vector_dtype 'float32'"),
        (lambda m: m["details"]["index"].update(encoder={"dimension": 3}), "its encoder gives 3 dimensions"),
        (lambda m: m["parts"][0].update(rows=9), "is not the same file among its parts and"),
        (lambda m: m["details"].pop("index"), "describes no index"),
        (lambda m: m["details"]["index"].update(shards=[]), "at least one shard"),
        (lambda m: m["details"]["index"].update(gone={"name": "../x"}), "gone: expected"),
    ],
)
def test_an_edited_description(
    whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, edit: Any, message: str
) -> None:
    folder = copied(whole_run / "index", tmp_path)
    edit_manifest(folder, edit)
    said = verify(capsys, folder)
    assert said.status == 1 and "index" in said.failed
    assert message in said.text, said.text


def test_an_index_that_grew_and_lost_passages(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    index = copied(world.made("index"), tmp_path)
    rows = [{"id": "new", "title": "New", "text": "one two three"}, {"id": "d0", "text": "of old id"}]
    write_lines(tmp_path / "more.jsonl", rows)
    rag_beam("chunk", input=tmp_path / "more.jsonl", output=tmp_path / "more")
    rag_beam(
        "encode",
        passages=tmp_path / "more",
        encoder=world.passage_encoder,
        num_threads=1,
        output=tmp_path / "vectors",
    )
    rag_beam("index", append=True, embeddings=tmp_path / "vectors", passages=tmp_path / "more", output=index)
    said = verify(capsys, index)
    assert said.status == 0, said.text
    assert "1 rejected (duplicate_id 1), 1 rows written" in said.text
    (tmp_path / "ids.txt").write_text("d1#0\nd7#1\nnobody\n")
    rag_beam("index", delete=tmp_path / "ids.txt", output=index)
    said = verify(capsys, index)
    assert said.status == 0, said.text
    assert said.skipped == {"order"}
    assert "81 rows in 3 shards, 2 of them gone" in said.text
    assert "79 times passage_id that is not gone" in said.text
    edit_manifest(index, lambda manifest: manifest["details"]["index"]["gone"].update(rows=3))
    said = verify(capsys, index)
    assert said.failed == {"index"} and "counts 3 rows that are gone" in said.text
    edit_manifest(index, lambda manifest: manifest["details"]["index"]["gone"].update(rows=2))
    flip_byte(index / "gone-00002.npy", -1)
    said = verify(capsys, index)
    assert {"files", "index"} <= said.failed
    flip_byte(index / "gone-00002.npy", -1)
    [rejects] = (index / "rejects").glob("part-gone-00002-*.parquet")
    rejects.unlink()
    said = verify(capsys, index)
    assert said.failed == {"rejects"} and "0 records rejected as unknown_id, expected 1" in said.text


def test_an_approximate_index(world: World, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    index = tmp_path / "index"
    rag_beam(
        "index",
        embeddings=world.made("embeddings"),
        passages=world.made("passages"),
        factory="IVF1,Flat",
        sample_questions=10,
        num_threads=1,
        output=index,
    )
    said = verify(capsys, index)
    assert said.status == 0, said.text
    assert "each shard's FAISS index has the rows" in said.text
    codes = index / "shard-00000.faiss"
    (index / "trained.faiss").rename(tmp_path / "trained.faiss")
    said = verify(capsys, index)
    assert {"files"} <= said.failed and "codes" in said.skipped
    (tmp_path / "trained.faiss").rename(index / "trained.faiss")
    codes.write_bytes((index / "trained.faiss").read_bytes())  # an index without vectors
    list_file_again(index, codes.name)
    said = verify(capsys, index)
    assert said.failed == {"codes"} and f"{codes}: holds 0 vectors" in said.text
