"""Data sets to read: ours proved before a row is delivered, others' taken once their columns fit."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.dataset.manifest import Input, fingerprint
from pipelines.dataset.reader import Dataset, Part, find_table, open_dataset
from pipelines.filesystems import STORAGE
from rag_core.errors import UsageError
from rag_core.tables import create_table
from schemas import TABLES
from tests.pipelines.commands import manifest_of, read_table
from tests.pipelines.dataset.running import flip_a_bit


def rows_of(dataset: Dataset, **range_: int) -> list[dict]:
    return [row for batch in dataset.read(STORAGE, **range_) for row in batch.to_pylist()]


def passages(*ids: str) -> pa.Table:
    rows = [
        {"passage_id": id_, "document_id": "d", "passage_number": 0, "title": "", "text": id_} for id_ in ids
    ]
    return pa.Table.from_pylist(rows, schema=TABLES["passages"])


def test_ours_is_known_by_its_manifest(finished):
    out = str(finished / "out")
    dataset = open_dataset(STORAGE, out, "passages")
    manifest = manifest_of(out)
    assert dataset.fingerprint == manifest.fingerprint
    assert dataset.rows == manifest.rows
    assert dataset.inputs == manifest.inputs
    assert dataset.as_input() == Input(out, manifest.fingerprint)
    assert [part.path for part in dataset.parts] == [f"{out}/{part.name}" for part in manifest.parts]
    assert rows_of(dataset) == read_table(out).to_pylist()


@pytest.mark.parametrize("harm", ["missing", "truncated", "flipped", "swapped"])
def test_a_part_that_is_not_the_manifests_is_named_before_a_row_is_delivered(finished, harm):
    out = finished / "out"
    first, second = out / "part-00000-00000.parquet", out / "part-00001-00000.parquet"
    dataset = open_dataset(STORAGE, str(out), "passages")
    if harm == "missing":
        first.unlink()
    elif harm == "truncated":
        first.write_bytes(first.read_bytes()[:-1])
    elif harm == "flipped":
        flip_a_bit(first)
    else:
        shutil.copy(second, first)
    with pytest.raises(UsageError, match=f"{first}: "):
        next(dataset.read(STORAGE))
    if harm != "flipped":  # which only reading finds
        with pytest.raises(UsageError, match=f"{first}: "):
            open_dataset(STORAGE, str(out), "passages")


def test_a_part_that_changes_after_it_was_proved_is_proved_again(finished):
    dataset = open_dataset(STORAGE, str(finished / "out"), "passages")
    assert rows_of(dataset)
    flip_a_bit(finished / "out" / "part-00000-00000.parquet")
    with pytest.raises(UsageError, match="its content has SHA-256"):
        next(dataset.read(STORAGE))


def test_an_edited_manifest_is_refused(finished):
    path = finished / "out" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["parts"].pop()
    path.write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="was changed after it was written"):
        open_dataset(STORAGE, str(finished / "out"), "passages")


def test_an_unfinished_folder_is_refused_with_what_to_run(stopped):
    with pytest.raises(
        UsageError, match=r"is unfinished \(it has no manifest.json\); run the stage"
    ) as refusal:
        open_dataset(STORAGE, str(stopped / "out"), "passages")
    assert str(stopped / "out") in str(refusal.value)


def test_our_parts_without_their_manifest_are_refused(finished):
    (finished / "out" / "manifest.json").unlink()
    with pytest.raises(UsageError, match="is unfinished"):
        open_dataset(STORAGE, str(finished / "out"), "passages")


def test_one_part_of_ours_among_others_makes_a_folder_unfinished(finished, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    pq.write_table(passages("a"), theirs / "a.parquet")
    shutil.copy(finished / "out" / "part-00000-00000.parquet", theirs)
    with pytest.raises(UsageError, match="is unfinished"):
        open_dataset(STORAGE, str(theirs), "passages")


def test_another_table_is_named(finished):
    with pytest.raises(UsageError, match="holds passages, expected questions"):
        open_dataset(STORAGE, str(finished / "out"), "questions")


def test_a_foreign_file_is_taken(tmp_path):
    path = str(tmp_path / "theirs.parquet")
    pq.write_table(passages("a", "b").append_column("url", pa.array(["u", "v"])), path)
    dataset = open_dataset(STORAGE, path, "passages")
    assert rows_of(dataset) == passages("a", "b").to_pylist()
    assert dataset.inputs == []
    assert dataset.fingerprint == fingerprint([dataset.parts[0].sha256])


def test_a_foreign_folder_is_taken_in_the_order_of_its_names(tmp_path):
    for name, ids in {"2.parquet": "cd", "1.parquet": "ab", "sub/0.parquet": "e"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(passages(*ids), tmp_path / name)
    (tmp_path / "_SUCCESS").write_bytes(b"")
    dataset = open_dataset(STORAGE, str(tmp_path), "passages")
    assert [row["passage_id"] for row in rows_of(dataset)] == list("abcde")


def test_foreign_content_changes_the_fingerprint_and_its_place_does_not(tmp_path):
    for folder, ids in {"one": "ab", "same": "ab", "other": "ac"}.items():
        (tmp_path / folder).mkdir()
        pq.write_table(passages(*ids), tmp_path / folder / "p.parquet")
    one, same, other = (
        open_dataset(STORAGE, str(tmp_path / name), "passages").fingerprint
        for name in ("one", "same", "other")
    )
    assert one == same != other


def test_a_foreign_file_that_changes_while_it_is_used_is_refused(tmp_path):
    path = tmp_path / "theirs.parquet"
    pq.write_table(passages("a"), path)
    dataset = open_dataset(STORAGE, str(path), "passages")
    pq.write_table(passages("b"), path)
    with pytest.raises(UsageError, match="was changed"):
        next(dataset.read(STORAGE))


def test_a_foreign_file_without_a_column_is_refused_by_name(tmp_path):
    path = tmp_path / "theirs.parquet"
    pq.write_table(passages("a").drop_columns(["title"]), path)
    with pytest.raises(UsageError, match=f"{path}: has no column 'title'.*expected the columns of passages"):
        open_dataset(STORAGE, str(path), "passages")


def test_nulls_in_a_foreign_file_are_refused_when_they_are_read(tmp_path):
    path = tmp_path / "theirs.parquet"
    rows = passages("a").to_pylist()
    pq.write_table(pa.Table.from_pylist([rows[0] | {"text": None}, rows[0]]), path)
    dataset = open_dataset(STORAGE, str(path), "passages")
    with pytest.raises(UsageError, match=f"{path}: column 'text' holds 1 nulls"):
        next(dataset.read(STORAGE))


@pytest.mark.parametrize("name", ["none", "none.parquet"])
def test_nothing_there_is_named(tmp_path, name):
    with pytest.raises(UsageError, match=f"{name}: no such folder or file"):
        open_dataset(STORAGE, str(tmp_path / name), "passages")


def test_a_folder_without_parquet_is_named(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"")
    with pytest.raises(UsageError, match="holds no Parquet files; expected passages"):
        open_dataset(STORAGE, str(tmp_path), "passages")


def test_a_data_set_without_rows_is_named(tmp_path):
    pq.write_table(passages(), tmp_path / "empty.parquet")
    with pytest.raises(UsageError, match="holds no passages"):
        open_dataset(STORAGE, str(tmp_path / "empty.parquet"), "passages")


def test_find_table_tells_ours_by_the_manifest_and_others_by_their_columns(finished, tmp_path):
    assert find_table(STORAGE, str(finished / "out"), ("questions", "passages")) == "passages"
    with pytest.raises(UsageError, match="holds passages, expected questions, labels"):
        find_table(STORAGE, str(finished / "out"), ("questions", "labels"))
    path = str(tmp_path / "theirs.parquet")
    pq.write_table(pa.table({"question_id": ["q"], "question": ["why?"]}), path)
    assert find_table(STORAGE, path, ("passages", "questions")) == "questions"
    with pytest.raises(UsageError, match="those of none of passages, labels"):
        find_table(STORAGE, path, ("passages", "labels"))
    with pytest.raises(UsageError, match="no such folder or file"):
        find_table(STORAGE, str(tmp_path / "none"), ("passages",))


@pytest.fixture(scope="module")
def three_parts(tmp_path_factory) -> Dataset:
    """Parts of 3, 1 and 5 rows called p0 … p8."""
    folder = tmp_path_factory.mktemp("parts")
    parts, first = [], 0
    for index, rows in enumerate([3, 1, 5]):
        path = f"{folder}/{index}.parquet"
        with create_table(STORAGE, path, TABLES["passages"]) as creation:
            for batch in passages(*(f"p{first + row}" for row in range(rows))).to_batches():
                creation.writer.write(batch)
        assert creation.written is not None
        parts.append(Part(path, rows, creation.written.sha256))
        first += rows
    return Dataset(str(folder), "passages", parts, "")


@settings(deadline=None, max_examples=50)
@given(begin=st.integers(0, 10), end=st.none() | st.integers(0, 10), batch_rows=st.integers(1, 4))
def test_a_range_over_parts_is_the_slice(three_parts, begin, end, batch_rows):
    batches = list(three_parts.read(STORAGE, begin=begin, end=end, batch_rows=batch_rows))
    ids = [id_ for batch in batches for id_ in batch.column("passage_id").to_pylist()]
    assert ids == [f"p{row}" for row in range(9)[begin:end]]
    assert all(0 < batch.num_rows <= batch_rows for batch in batches)


@pytest.mark.parametrize("unit_rows", [1, 2, 3, 100])
def test_row_ranges_cover_each_part_once(three_parts: Dataset, unit_rows):
    covered: list[list[int]] = [[] for _ in three_parts.parts]
    numbers: list[list[int]] = [[] for _ in three_parts.parts]
    for part, number, begin, end in three_parts.row_ranges(unit_rows):
        assert 0 < end - begin <= unit_rows
        covered[part] += range(begin, end)
        numbers[part].append(number)
    assert covered == [list(range(part.rows)) for part in three_parts.parts]
    assert all(found == list(range(len(found))) for found in numbers)
