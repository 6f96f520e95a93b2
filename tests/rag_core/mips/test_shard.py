"""Shards as files: what is written, what is refused, and manifest entries."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rag_core.errors import UsageError
from rag_core.mips.shard import PASSAGES_PER_BATCH, ShardInfo, write_shard
from rag_core.storage import LocalStorage
from tests.rag_core.mips.small_index import in_batches, passages

IDS = [f"p{number}" for number in range(200)]


def write(folder: Path, vectors: np.ndarray, **changes) -> ShardInfo:
    arguments = {
        "rows": 200,
        "dimension": 5,
        "vector_dtype": "float16",
        "batches": in_batches(IDS, vectors, 33),
        **changes,
    }
    return write_shard(LocalStorage(), str(folder), "s", **arguments)


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((200, 5)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_files_open_with_numpy_and_arrow(tmp_path, vectors, dtype) -> None:
    info = write(tmp_path, vectors, vector_dtype=dtype)

    stored = np.load(tmp_path / info.vectors_file, mmap_mode="r")
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, vectors.astype(dtype))
    reader = pa.ipc.open_file(tmp_path / info.passages_file)
    assert [reader.get_batch(n).num_rows for n in range(reader.num_record_batches)] == [64, 64, 64, 8]
    assert PASSAGES_PER_BATCH == 64
    assert reader.read_all().combine_chunks().to_batches() == [passages(IDS)]
    assert (tmp_path / info.passages_file).stat().st_size < passages(IDS).nbytes / 3  # compressed


def test_info_states_checksums_and_norm(tmp_path, vectors) -> None:
    info = write(tmp_path, vectors)

    for name, checksum in info.files.items():
        content = (tmp_path / name).read_bytes()
        assert checksum.bytes == len(content)
        assert checksum.sha256 == hashlib.sha256(content).hexdigest()
    largest = np.linalg.norm(vectors.astype(np.float16).astype(np.float64), axis=1).max()
    assert largest <= info.max_norm <= largest * (1 + 1e-8)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(info.files)


def test_info_goes_through_json(tmp_path, vectors) -> None:
    info = write(tmp_path, vectors)
    assert ShardInfo.from_json(json.loads(json.dumps(info.to_json()))) == info


def test_batches_of_any_size_give_the_same_files(tmp_path, vectors) -> None:
    infos = [
        write(tmp_path / str(rows), vectors, batches=in_batches(IDS, vectors, rows))
        for rows in (1, 7, 64, 65, 200)
    ]
    assert infos == [infos[0]] * 5


@pytest.mark.parametrize("announced", [199, 201])
def test_another_number_of_rows_leaves_no_file(tmp_path, vectors, announced) -> None:
    with pytest.raises(ValueError, match=f"expected {announced} rows"):
        write(tmp_path, vectors, rows=announced)
    assert list(tmp_path.iterdir()) == []


def test_unequal_passages_and_vectors_leave_no_file(tmp_path, vectors) -> None:
    batches = [(passages(IDS[:100]), vectors[:100]), (passages(IDS[100:]), vectors[100:199])]
    with pytest.raises(ValueError, match="100 passages with 99 vectors after row 100"):
        write(tmp_path, vectors, batches=batches)
    assert list(tmp_path.iterdir()) == []


def test_an_exception_of_the_source_leaves_no_file(tmp_path, vectors) -> None:
    def broken():
        yield passages(IDS[:100]), vectors[:100]
        raise OSError("the source went away")

    with pytest.raises(OSError, match="went away"):
        write(tmp_path, vectors, batches=broken())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, 70_000.0])  # float16 ends at 65504
def test_a_vector_that_does_not_fit_is_named(tmp_path, vectors, value) -> None:
    vectors[150, 2] = value
    with pytest.raises(ValueError, match="vector of row 150 is not finite in float16"):
        write(tmp_path, vectors)
    assert list(tmp_path.iterdir()) == []


def test_vectors_of_another_dimension_are_refused(tmp_path, vectors) -> None:
    with pytest.raises(ValueError, match=r"expected vectors \[n, 6\], got \[33, 5\]"):
        write(tmp_path, vectors, dimension=6)


def test_names_that_leave_the_folder_are_not_written(tmp_path, vectors) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        write_shard(
            LocalStorage(),
            str(tmp_path),
            "../s",
            rows=200,
            dimension=5,
            vector_dtype="float16",
            batches=in_batches(IDS, vectors, 33),
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../s"}, "name is letters"),
        ({"name": None}, "name is letters"),
        ({"rows": 0}, "rows is expected"),
        ({"rows": True}, "rows is expected"),
        ({"dimension": "5"}, "dimension is expected"),
        ({"vector_dtype": "float64"}, "vector_dtype is one of"),
        ({"max_norm": float("nan")}, "max_norm is expected"),
        ({"max_norm": None}, "max_norm is expected"),
        ({"files": []}, "files is expected to be an object"),
        ({"files": {}}, "expected the files"),
        ({"files": {"s.vectors.npy": {"bytes": 1}}}, "sha256"),
        ({"files": {"s.vectors.npy": {"bytes": -1, "sha256": "0" * 64}}}, "sha256"),
        ({"files": {"../../etc/passwd": {"bytes": 1, "sha256": "0" * 64}}}, "expected the files"),
    ],
)
def test_manifest_entries_out_of_range_are_refused(tmp_path, vectors, change, message) -> None:
    entry = write(tmp_path, vectors).to_json() | change
    with pytest.raises(UsageError, match=message):
        ShardInfo.from_json(entry, "index: manifest.json")


@pytest.mark.parametrize("entry", [None, [], "s", {}])
def test_manifest_entries_of_another_kind_are_refused(entry) -> None:
    with pytest.raises(UsageError, match=r"^index: manifest.json"):
        ShardInfo.from_json(entry, "index: manifest.json")
