"""Parquet tables: whole or not there, read in bounded pieces, and damage told by name."""

import hashlib
import itertools
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_core import tables
from rag_core.errors import UsageError
from rag_core.storage import LocalStorage
from rag_core.tables import ROW_GROUP_ROWS, create_table, inspect_table, read_batches
from schemas import TABLES
from schemas.embeddings import embeddings_schema

STORAGE = LocalStorage()
SCHEMA = TABLES["passages"]
ROWS = 2 * ROW_GROUP_ROWS + 1_234


def passages(begin: int, end: int) -> pa.RecordBatch:
    rows = range(begin, end)
    columns = [
        pa.array([f"p{row}" for row in rows]),
        pa.array([f"d{row // 3}" for row in rows]),
        pa.array([row % 3 for row in rows], pa.int32()),
        pa.array([f"title {row // 3}" for row in rows]),
        pa.array([f"words of row {row}" for row in rows]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def write(path: Path, *batches: pa.RecordBatch, schema: pa.Schema = SCHEMA) -> tables.WrittenFile:
    with create_table(STORAGE, str(path), schema) as creation:
        for batch in batches:
            creation.writer.write(batch)
        creation.writer.footer = {"table": "passages", "Größe": [1, 2]}
    assert creation.written is not None
    return creation.written


def read(path: Path, schema: pa.Schema = SCHEMA, **range_: int) -> pa.Table:
    batches = list(read_batches(STORAGE, str(path), schema, **range_))
    return pa.Table.from_batches(batches, schema=batches[0].schema if batches else schema)


@pytest.fixture(scope="module")
def three_groups(tmp_path_factory) -> Path:
    """ROWS rows, handed over in batches of odd sizes."""
    path = tmp_path_factory.mktemp("tables") / "passages.parquet"
    bounds = [0, 1, 700, 700, 9_000, ROWS]
    write(path, *(passages(*pair) for pair in itertools.pairwise(bounds)))
    return path


def test_rows_come_back_in_row_groups_of_bounded_size(three_groups):
    metadata = pq.read_metadata(three_groups)
    groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    assert sum(groups) == ROWS
    assert len(groups) >= 2
    assert max(groups) < 2 * ROW_GROUP_ROWS
    assert read(three_groups).equals(pa.Table.from_batches([passages(0, ROWS)]))


def test_row_groups_of_long_texts_are_bounded_in_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP_BYTES", 10_000)
    long_text = pa.RecordBatch.from_pylist(
        [passages(0, 1).to_pylist()[0] | {"text": "x" * 4_000}], schema=SCHEMA
    )
    write(tmp_path / "long.parquet", *[long_text] * 10)
    metadata = pq.read_metadata(tmp_path / "long.parquet")
    groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    assert groups == [3, 3, 3, 1]


def test_what_is_written_is_what_the_file_is_known_by(three_groups, tmp_path):
    written = write(tmp_path / "some.parquet", passages(0, 10))
    content = (tmp_path / "some.parquet").read_bytes()
    assert written == tables.WrittenFile(
        "some.parquet", 10, len(content), hashlib.sha256(content).hexdigest()
    )


def test_the_footer_comes_back_and_is_told_from_none(three_groups, tmp_path):
    table = inspect_table(STORAGE, str(three_groups))
    assert table.rows == ROWS
    assert table.footer == {"table": "passages", "Größe": [1, 2]}
    assert table.schema.equals(SCHEMA)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "theirs.parquet")
    assert inspect_table(STORAGE, str(tmp_path / "theirs.parquet")).footer is None


@settings(deadline=None, max_examples=60)
@given(
    begin=st.integers(0, ROWS + 10),
    length=st.none() | st.integers(0, ROWS + 10),
    batch_rows=st.sampled_from([1_000, 4_096, 10**6]),
)
def test_a_range_of_rows_is_the_slice(three_groups, begin, length, batch_rows):
    end = None if length is None else begin + length
    expected = range(ROWS)[begin:end]
    batches = list(
        read_batches(STORAGE, str(three_groups), SCHEMA, begin=begin, end=end, batch_rows=batch_rows)
    )
    assert [row for batch in batches for row in batch.column("passage_id").to_pylist()] == [
        f"p{row}" for row in expected
    ]
    assert all(0 < batch.num_rows <= batch_rows for batch in batches)


def test_only_the_row_groups_of_the_range_are_read(three_groups, monkeypatch):
    groups = []
    iter_batches = pq.ParquetFile.iter_batches

    def spy(self, *args, row_groups=None, **kwargs):
        groups.append(row_groups)
        return iter_batches(self, *args, row_groups=row_groups, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    assert read(three_groups, begin=ROWS - 1).num_rows == 1
    last = pq.read_metadata(three_groups).num_row_groups - 1
    assert groups == [[last]]


def test_a_table_of_no_rows_is_whole(tmp_path):
    written = write(tmp_path / "empty.parquet")
    assert written.rows == 0
    assert read(tmp_path / "empty.parquet").num_rows == 0
    assert inspect_table(STORAGE, str(tmp_path / "empty.parquet")).footer is not None


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_an_exception_leaves_no_file(tmp_path):
    path = tmp_path / "half.parquet"
    with pytest.raises(ZeroDivisionError), create_table(STORAGE, str(path), SCHEMA) as creation:
        creation.writer.write(passages(0, ROW_GROUP_ROWS + 1))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    assert creation.written is None


def test_a_file_whose_writer_stopped_has_no_footer_that_a_reader_takes(tmp_path):
    """The bytes of half a table, wherever they end up, are not a table."""
    path = tmp_path / "half.parquet"

    class Keeping(LocalStorage):
        """A store that keeps what it got, as an object store does when an upload is closed."""

        def create(self, path):
            return open(path, "wb")

    with pytest.raises(ZeroDivisionError), create_table(Keeping(), str(path), SCHEMA) as creation:
        creation.writer.write(passages(0, ROW_GROUP_ROWS + 1))
        raise ZeroDivisionError
    assert path.stat().st_size > 0
    with pytest.raises(UsageError, match="not a whole Parquet file"):
        inspect_table(STORAGE, str(path))


def test_columns_are_zstd_and_texts_have_dictionaries(three_groups):
    group = pq.read_metadata(three_groups).row_group(0)
    columns = {group.column(index).path_in_schema: group.column(index) for index in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "RLE_DICTIONARY" in columns["title"].encodings


def test_vectors_have_neither_dictionaries_nor_statistics(tmp_path):
    schema = pa.schema([*embeddings_schema(8, "float32")][:2])  # without the passages' hashes
    vectors = np.zeros((1_000, 8), dtype=np.float32)  # repetitive enough for a dictionary
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 8)
    ids = pa.array([f"p{row}" for row in range(1_000)])
    write(tmp_path / "v.parquet", pa.RecordBatch.from_arrays([ids, column], schema=schema), schema=schema)
    group = pq.read_metadata(tmp_path / "v.parquet").row_group(0)
    vector = group.column(1)
    assert vector.path_in_schema.startswith("vector")
    assert vector.compression == "ZSTD"
    assert not vector.has_dictionary_page
    assert "RLE_DICTIONARY" not in vector.encodings
    assert not vector.is_stats_set


def test_the_description_of_a_column_travels_in_the_file(three_groups):
    field = pq.read_schema(three_groups).field("passage_number")
    assert field.metadata[b"description"].startswith(b"place of the passage")


def test_a_missing_file_is_named(tmp_path):
    path = str(tmp_path / "none.parquet")
    for reading in (inspect_table, lambda *arguments: list(read_batches(*arguments, SCHEMA))):
        with pytest.raises(UsageError, match=r"none\.parquet: no such file"):
            reading(STORAGE, path)


def test_a_folder_in_a_files_place_is_named(tmp_path):
    with pytest.raises(UsageError, match="cannot be opened"):
        inspect_table(STORAGE, str(tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"no Parquet at all, but long enough to look for a footer"]
)
def test_what_is_not_parquet_is_named(tmp_path, content):
    path = tmp_path / "other.parquet"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"other\.parquet: is not a whole Parquet file"):
        inspect_table(STORAGE, str(path))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_named(three_groups, tmp_path, kept):
    content = three_groups.read_bytes()
    path = tmp_path / "short.parquet"
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(UsageError, match=r"short\.parquet: is not a whole"):
        read(path)


def test_a_flipped_bit_in_the_rows_is_found_wherever_it_is(three_groups, tmp_path):
    """Pages have checksums: without them, some flips would give other words and no error."""
    content = three_groups.read_bytes()
    footer_bytes = int.from_bytes(content[-8:-4], "little") + 8
    generator = random.Random(0)
    path = tmp_path / "flipped.parquet"
    for _ in range(25):
        flipped = bytearray(content)
        position = generator.randrange(4, len(content) - footer_bytes)
        flipped[position] ^= 1 << generator.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(UsageError, match=r"flipped\.parquet: is damaged Parquet"):
            inspect_table(STORAGE, str(path), prove=True)
        with pytest.raises(UsageError, match=r"flipped\.parquet: is damaged Parquet"):
            read(path)


def test_columns_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "theirs.parquet"
    pq.write_table(pa.table({"passage_id": ["a"], "text": [1]}), path)
    with pytest.raises(UsageError, match=r"theirs\.parquet: has no column 'document_id'"):
        read(path)


def test_foreign_columns_are_read_as_the_tables(tmp_path):
    path = tmp_path / "theirs.parquet"
    theirs = pa.table(
        {
            "extra": pa.array([[1], [2]]),
            "text": pa.array(["x", "y"], pa.large_string()),
            "title": pa.array(["t", "t"]).dictionary_encode(),
            "passage_number": pa.array([0, 1], pa.int64()),
            "document_id": ["d", "d"],
            "passage_id": ["a", "b"],
        }
    )
    pq.write_table(theirs, path)
    assert read(path).schema.equals(SCHEMA)
    assert read(path, begin=1).to_pylist() == [
        {"passage_id": "b", "document_id": "d", "passage_number": 1, "title": "t", "text": "y"}
    ]
