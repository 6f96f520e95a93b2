"""Opening an index, and refusing files that are not the manifest's before a search returns."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from rag_core.errors import UsageError
from rag_core.mips.shard import write_shard
from rag_core.storage import LocalStorage
from tests.rag_core.mips.small_index import (
    assert_same,
    in_batches,
    open_index,
    reference_search,
    write_index,
)

IDS = [f"p{number:03d}" for number in range(300)]
QUESTIONS = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)
VECTORS = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float16)
MEMORY = 2**20


@pytest.fixture
def manifest(tmp_path) -> dict:
    return json.loads(json.dumps(write_index(str(tmp_path), IDS, VECTORS, [100, 200])))


def flip_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def search(folder: Path, manifest: dict):
    return open_index(str(folder), manifest).search(QUESTIONS, 5, memory_bytes=MEMORY)


def test_a_copied_folder_answers_alone(tmp_path, manifest) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(tmp_path, copy, ignore=shutil.ignore_patterns("elsewhere"))
    for path in tmp_path.glob("shard-*"):
        path.unlink()
    index = open_index(str(copy), manifest)
    found = index.search(QUESTIONS, 5, memory_bytes=MEMORY)
    assert_same(found, reference_search(IDS, VECTORS, QUESTIONS, 5))
    texts = index.passages(found.rows.ravel())
    assert texts["passage_id"].to_pylist() == [IDS[row] for row in found.rows.ravel()]
    assert (index.rows, index.dimension, len(index.shards)) == (300, 6, 3)
    assert index.encoder == {"fingerprint": "of the encoder"}


@pytest.mark.parametrize("position", [7, 90, 128, 700, -1])  # in the header, the data, the last byte
def test_a_flipped_byte_of_vectors_is_refused_by_search(tmp_path, manifest, position) -> None:
    flip_byte(tmp_path / "shard-00001.vectors.npy", position)
    with pytest.raises(UsageError, match=r"shard-00001\.vectors\.npy"):
        search(tmp_path, manifest)


def test_a_damaged_file_is_refused_again_and_without_questions(tmp_path, manifest) -> None:
    flip_byte(tmp_path / "shard-00002.vectors.npy", 500)
    index = open_index(str(tmp_path), manifest)
    for questions in (QUESTIONS, QUESTIONS[:0], QUESTIONS):
        with pytest.raises(UsageError, match=r"shard-00002\.vectors\.npy.*SHA-256 is [0-9a-f]{64}, expected"):
            index.search(questions, 5, memory_bytes=MEMORY)
    # the other shards are whole
    assert index.search(QUESTIONS, 5, memory_bytes=MEMORY, shards=[0, 1]).rows.max() < 200


def test_files_are_hashed_once(tmp_path, manifest) -> None:
    index = open_index(str(tmp_path), manifest)
    before = index.search(QUESTIONS, 5, memory_bytes=MEMORY)
    for number in range(3):  # replaced, not rewritten: mapped files live on
        (tmp_path / f"shard-{number:05d}.vectors.npy").unlink()
    assert_same(index.search(QUESTIONS, 5, memory_bytes=MEMORY), before)


def test_a_flipped_byte_of_passages_is_refused_before_a_passage_is_given(tmp_path, manifest) -> None:
    flip_byte(tmp_path / "shard-00001.passages.arrow", 400)
    index = open_index(str(tmp_path), manifest)
    assert index.passages(np.array([0, 299])).num_rows == 2
    with pytest.raises(UsageError, match=r"shard-00001\.passages\.arrow.*SHA-256"):
        index.passages(np.array([0, 150]))


def test_a_flipped_byte_of_passages_is_refused_by_a_search_that_orders_ties(tmp_path) -> None:
    manifest = write_index(str(tmp_path), IDS, np.ones((300, 6), np.float16))
    flip_byte(tmp_path / "shard-00000.passages.arrow", 400)
    with pytest.raises(UsageError, match=r"shard-00000\.passages\.arrow"):
        search(tmp_path, manifest)


@pytest.mark.parametrize("file", ["shard-00002.vectors.npy", "shard-00002.passages.arrow"])
def test_a_missing_file_is_refused_when_opening(tmp_path, manifest, file) -> None:
    (tmp_path / file).unlink()
    with pytest.raises(UsageError, match=f"{file}: missing"):
        open_index(str(tmp_path), manifest)


@pytest.mark.parametrize("file", ["shard-00000.vectors.npy", "shard-00000.passages.arrow"])
def test_a_shortened_file_is_refused_when_opening(tmp_path, manifest, file) -> None:
    path = tmp_path / file
    path.write_bytes(path.read_bytes()[:-1])
    size = path.stat().st_size
    with pytest.raises(UsageError, match=rf"{file}.*{size} bytes, expected {size + 1}"):
        open_index(str(tmp_path), manifest)


def test_swapped_shards_are_refused(tmp_path, manifest) -> None:
    first, second = tmp_path / "shard-00000.vectors.npy", tmp_path / "shard-00001.vectors.npy"
    first.rename(tmp_path / "aside")
    second.rename(first)
    (tmp_path / "aside").rename(second)
    with pytest.raises(UsageError, match=r"shard-00000\.vectors\.npy.*file of another index"):
        search(tmp_path, manifest)


def test_the_shard_of_another_index_is_refused(tmp_path, manifest) -> None:
    other = tmp_path / "other"
    write_index(str(other), IDS, VECTORS + np.float16(1), [100, 200])
    shutil.copy(other / "shard-00002.vectors.npy", tmp_path)
    with pytest.raises(UsageError, match=r"shard-00002\.vectors\.npy.*file of another index"):
        search(tmp_path, manifest)


def test_vectors_of_another_shape_are_refused_though_their_checksum_is_right(tmp_path, manifest) -> None:
    shard = manifest["shards"][1] | {"rows": 200, "dimension": 3}
    changed = manifest | {"rows": 200, "dimension": 3, "shards": [shard]}
    with pytest.raises(UsageError, match=r"shard-00001\.vectors\.npy: holds float16 \[100, 6\].*\[200, 3\]"):
        open_index(str(tmp_path), changed)


def test_passages_with_a_row_less_are_refused(tmp_path, manifest) -> None:
    """Even where someone wrote the new file's checksum into the manifest."""
    other = tmp_path / "other"
    shorter = write_shard(
        LocalStorage(),
        str(other),
        "shard-00000",
        rows=99,
        dimension=6,
        vector_dtype="float16",
        batches=in_batches(IDS[:99], VECTORS[:99], 50),
    )
    name = shorter.passages_file
    shutil.copy(other / name, tmp_path)
    with pytest.raises(UsageError, match=name):
        open_index(str(tmp_path), manifest)
    manifest["shards"][0]["files"][name] = shorter.files[name].to_json()
    index = open_index(str(tmp_path), manifest)
    with pytest.raises(UsageError, match=f"{name}: holds 99 passages for 100 vectors"):
        index.passages(np.array([0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"factory": "HNSW32"}, "trained: expected bytes and a sha256"),
        ({"metric": "l2"}, "with 'l2'"),
        ({"shards": []}, "at least one shard"),
        ({"shards": None}, "at least one shard"),
        ({"rows": 299}, "its shards have 300 rows, expected rows 299"),
        ({"dimension": 7}, "shard shard-00000 has dimension 6, expected the index's 7"),
        ({"vector_dtype": "float32"}, "has vector_dtype 'float16', expected the index's 'float32'"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(tmp_path, manifest, change, message) -> None:
    with pytest.raises(UsageError, match=message):
        open_index(str(tmp_path), manifest | change)


def test_a_shard_listed_twice_is_refused(tmp_path, manifest) -> None:
    manifest["shards"][1] = manifest["shards"][0]
    with pytest.raises(UsageError, match="same name"):
        open_index(str(tmp_path), manifest)
