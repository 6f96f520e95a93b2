"""What a stage makes of its units: rows, order, parts, duplicates and the ledger, against plain loops."""

import math
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.dataset import duplicates, unit
from pipelines.dataset.duplicates import find_duplicates, plan_buckets
from pipelines.dataset.ledger import Counts
from pipelines.dataset.manifest import Manifest
from pipelines.dataset.parts import assemble_part, assemble_rejects, finish, plan_parts, plan_rejects
from pipelines.dataset.reader import open_dataset
from pipelines.dataset.target import Target, claim
from pipelines.dataset.unit import create_unit
from pipelines.filesystems import STORAGE
from rag_core.tables import inspect_table
from tests.pipelines.commands import manifest_of, read_rejects, read_table
from tests.pipelines.dataset.oracle import expect
from tests.pipelines.dataset.small_stage import (
    STAGE,
    ListRecords,
    RecordsSettings,
    Sources,
    target_of,
    write_records,
)

# few ids, so that they are met again: within a unit, in another unit, in another source
RECORDS = st.tuples(
    st.sampled_from("abcdefghijkl"),
    st.integers(1, 4),
    st.sampled_from(["accept"] * 8 + ["bad_json", "redirect"]),
)
SOURCES = st.lists(st.lists(st.lists(RECORDS, max_size=12), min_size=1, max_size=4), min_size=1, max_size=3)


def make_without_runner(target: Target, work: ListRecords) -> bool:
    """The graph of MakeDataset as plain calls, in the order in which a runner makes them."""
    claim(STORAGE, target, overwrite=False)
    reports = []
    for planned in work.plan():
        with create_unit(STORAGE, target, planned) as writer:
            work.compute(planned, work.load(), writer)
        report = unit.committed_report(STORAGE, target, planned)
        assert report is not None
        reports.append(report)
    buckets = plan_buckets(reports) if target.unique else []
    for bucket in buckets:
        find_duplicates(STORAGE, target, bucket, reports)
    written = [
        assemble_part(STORAGE, target, plan) for plan in plan_parts(STORAGE, target, reports, len(buckets))
    ]
    changes = [
        assemble_rejects(STORAGE, target, losses)
        for losses in plan_rejects(STORAGE, target, reports, len(buckets))
    ]
    counts = Counts.total([*(report.counts for report in reports), *changes])
    return finish(STORAGE, target, counts, written)


def settings_for(folder: Path, sources: Sources, **options) -> RecordsSettings:
    records = write_records(folder / "records.json", sources)
    options = {"max_rejects": 1.0, "progress": "none"} | options
    return RecordsSettings(records=str(records), output=str(folder / "out"), **options)


def check(folder: str, sources: Sources, *, unique: bool, rows_per_part: int) -> None:
    """Holds a finished folder against the oracle."""
    expected = expect(sources, unique=unique)
    manifest = manifest_of(folder)
    if manifest.parts:
        assert read_table(folder).to_pylist() == expected.all_rows
    else:
        assert expected.all_rows == []
    assert [(part.name, part.rows) for part in manifest.parts] == [
        (f"part-{source:05d}-{number:05d}.parquet", min(rows_per_part, len(rows) - number * rows_per_part))
        for source, rows in enumerate(expected.rows)
        for number in range(math.ceil(len(rows) / rows_per_part))
    ]
    rejects = read_rejects(folder)
    assert sorted(
        (reject["source"], reject["position"], reject["record_id"], reject["reason"]) for reject in rejects
    ) == sorted(expected.rejects)
    check_ledger(manifest, expected.read, expected.accepted)
    assert manifest.counts.left_out == expected.left_out
    assert manifest.counts.rejected == expected.rejected
    assert manifest.counts.rows_written == manifest.rows == len(expected.all_rows)


def check_ledger(manifest: Manifest, read: int, accepted: int) -> None:
    counts = manifest.counts
    assert (counts.read, counts.accepted) == (read, accepted)
    assert counts.read == counts.accepted + counts.left_out.total() + counts.rejected.total()


@settings(deadline=None, max_examples=60)
@given(sources=SOURCES, rows_per_part=st.integers(1, 15), unique=st.booleans(), small=st.booleans())
def test_units_of_any_size_make_the_rows_of_plain_loops(sources, rows_per_part, unique, small):
    """`small`: ids are sought in many buckets and runs, as those of a large corpus are."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            os, "fsync", lambda descriptor: None
        )  # no power fails here, and it takes most of the time
        if small:
            patch.setattr(duplicates, "_KEYS_PER_BUCKET", 3)
            patch.setattr(duplicates, "KEYS_PER_RUN", 4)
            patch.setattr(unit, "KEYS_PER_RUN", 4)
        options = settings_for(Path(folder), sources, rows_per_part=rows_per_part, unique=unique)
        target = target_of(options)
        assert make_without_runner(target, ListRecords(options.records))
        check(target.folder, sources, unique=unique, rows_per_part=rows_per_part)


@settings(deadline=None, max_examples=4)
@given(sources=SOURCES, rows_per_part=st.integers(1, 15))
def test_the_runner_makes_the_same(sources, rows_per_part):
    with tempfile.TemporaryDirectory() as folder:
        options = settings_for(Path(folder), sources, rows_per_part=rows_per_part, unique=True)
        STAGE.run(options, [])
        check(options.output, sources, unique=True, rows_per_part=rows_per_part)


def test_duplicates_in_units_of_many_batches_are_dropped_row_by_row(tmp_path):
    """Records of 7 rows stand across the ends of batches of 1,000, and parts across both."""
    ids = [number if number % 3 else number // 2 for number in range(400)]
    sources: Sources = [[[[f"id{id_ + 250 * unit}", 7, "accept"] for id_ in ids] for unit in range(2)]]
    options = settings_for(tmp_path, sources, rows_per_part=300, unique=True)
    target = target_of(options)
    assert make_without_runner(target, ListRecords(options.records))
    check(target.folder, sources, unique=True, rows_per_part=300)


DUPLICATES: Sources = [
    [[["a", 2, "accept"], ["b", 1, "accept"]], [["c", 1, "accept"], ["a", 3, "accept"], ["d", 1, "accept"]]],
    [[["e", 1, "accept"], ["b", 2, "accept"], ["e", 1, "accept"]]],
]


def test_a_duplicate_is_rejected_with_where_the_first_one_stands(tmp_path):
    options = settings_for(tmp_path, DUPLICATES, unique=True)
    STAGE.run(options, [])
    rejects = {reject["record_id"]: reject for reject in read_rejects(options.output)}
    assert set(rejects) == {"a", "b", "e"}
    assert rejects["a"] | {"excerpt": ""} == {
        "stage": "records",
        "source": "odd-0.txt",
        "position": 1,
        "record_id": "a",
        "reason": "duplicate_id",
        "message": "passage_id 'a' was met before, in even-0.txt at 0; that record is kept. "
        "Give each record an id of its own",
        "excerpt": "",
    }
    assert "in odd-0.txt at 1;" in rejects["b"]["message"]  # first met in another source
    assert "in even-1.txt at 0;" in rejects["e"]["message"]  # first met in the same unit


def test_without_uniqueness_equal_ids_stay(tmp_path):
    options = settings_for(tmp_path, DUPLICATES, unique=False)
    STAGE.run(options, [])
    assert read_rejects(options.output) == []
    ids = read_table(options.output).column("passage_id").to_pylist()
    assert ids.count("a") == ids.count("b") == ids.count("e") == 2


def test_rejects_say_where_and_why_and_show_the_start(tmp_path):
    sources: Sources = [[[["a", 1, "accept"], ["b", 1, "bad_field"], ["c", 1, "empty_line"]]]]
    options = settings_for(tmp_path, sources)
    STAGE.run(options, [])
    assert read_rejects(options.output) == [
        {
            "stage": "records",
            "source": "odd-0.txt",
            "position": 1,
            "record_id": "b",
            "reason": "bad_field",
            "message": "bad_field it is",
            "excerpt": "x" * 200,
        }
    ]
    assert manifest_of(options.output).counts.to_json() == {
        "read": 3,
        "accepted": 1,
        "left_out": {"empty_line": 1},
        "rejected": {"bad_field": 1},
        "rows_written": 1,
    }


def test_a_unit_of_many_rejects_keeps_them_in_order(tmp_path):
    sources: Sources = [[[[f"r{number}", 1, "bad_row"] for number in range(2_500)]]]
    options = settings_for(tmp_path, sources)
    STAGE.run(options, [])
    assert [reject["record_id"] for reject in read_rejects(options.output)] == [
        f"r{number}" for number in range(2_500)
    ]


def test_parts_of_more_than_five_digits_keep_the_data_sets_order(tmp_path):
    """Their names sort otherwise: part-100000 comes before part-99999."""
    sources: Sources = [[[[f"s{number}", 1, "accept"]]] for number in range(4)]
    options = settings_for(tmp_path, sources, first_source=99_998)
    STAGE.run(options, [])
    batches = open_dataset(STORAGE, options.output, "passages").read(STORAGE)
    ids = [record_id for batch in batches for record_id in batch.column("passage_id").to_pylist()]
    assert ids == ["s0", "s1", "s2", "s3"]


def test_no_record_makes_a_finished_folder_of_no_rows(tmp_path):
    options = settings_for(tmp_path, [[[]], [[]]])
    manifest = STAGE.run(options, [])
    assert manifest.parts == []
    assert manifest.rows == 0


def test_a_finished_folder_holds_nothing_but_parts_rejects_and_manifest(tmp_path):
    options = settings_for(tmp_path, DUPLICATES, unique=True, rows_per_part=2)
    STAGE.run(options, [])
    names = sorted(path.relative_to(options.output).as_posix() for path in Path(options.output).rglob("*"))
    assert names == [
        "manifest.json",
        "part-00000-00000.parquet",
        "part-00000-00001.parquet",
        "part-00000-00002.parquet",
        "part-00001-00000.parquet",
        "rejects",
        "rejects/part-00000-00000.parquet",
        "rejects/part-00001-00000.parquet",
    ]


def test_parts_carry_the_fingerprint_of_their_target(tmp_path):
    options = settings_for(tmp_path, DUPLICATES)
    manifest = STAGE.run(options, [])
    footer = inspect_table(STORAGE, f"{options.output}/{manifest.parts[0].name}").footer
    assert footer is not None
    assert footer["fingerprint"] == manifest.fingerprint == target_of(options).fingerprint
