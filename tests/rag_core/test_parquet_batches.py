"""Batches of Parquet rows: the same rows, however few of them fit into a batch."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rag_core import parquet_batches
from rag_core.parquet_batches import bounded_batches

LONG = "x" * 100_000
TABLE = pa.table(
    {
        "id": [f"d{row}" for row in range(90)],
        "text": [LONG if 30 <= row < 60 else f"short {row}" for row in range(90)],
        "answers": [[f"a{row}", "b"] for row in range(90)],
        "number": list(range(90)),
    }
)


def read(path: Path, **options: object) -> list[pa.RecordBatch]:
    with path.open("rb") as file:
        return list(bounded_batches(file, pq.ParquetFile(file), 20, **options))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three row groups of 30 rows, the second with a long value thirty times."""
    pq.write_table(TABLE, tmp_path / "file.parquet", row_group_size=30)
    return tmp_path / "file.parquet"


def test_a_row_group_with_long_values_comes_in_small_batches(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_batches, "MOST_BYTES", 8 * len(LONG))
    batches = read(path)
    assert [batch.num_rows for batch in batches] == [20, 10, 8, 8, 8, 6, 20, 10]
    assert pa.Table.from_batches(batches).equals(TABLE)


def test_a_value_longer_than_a_batch_may_be_comes_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_batches, "MOST_BYTES", len(LONG) - 1)
    batches = read(path, row_groups=[1], columns=["text", "number"])
    assert [batch.num_rows for batch in batches] == [1] * 30
    assert pa.Table.from_batches(batches).equals(TABLE.slice(30, 30).select(["text", "number"]))


def test_columns_that_are_not_read_make_no_batch_smaller(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_batches, "MOST_BYTES", len(LONG))
    assert [batch.num_rows for batch in read(path, columns=["id", "answers"])] == [20, 10] * 3


def test_strings_that_are_in_no_dictionary_are_as_long_as_the_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_batches, "MOST_BYTES", len(LONG))
    pq.write_table(TABLE, tmp_path / "plain.parquet", use_dictionary=False)
    assert pa.Table.from_batches(read(tmp_path / "plain.parquet")).equals(TABLE)
