"""The flood of rejects: when it ends a run with status 1, and how one goes on from there."""

import pytest

from pipelines.dataset.ledger import Counts, flood_message, is_flood
from tests.pipelines.commands import manifest_of, read_rejects, read_table
from tests.pipelines.dataset.running import run
from tests.pipelines.dataset.small_stage import Sources, computed


def records(accepted: int, rejected: int, reason: str = "bad_json") -> Sources:
    """One source of two units."""
    return [
        [
            [[f"a{number}", 1, "accept"] for number in range(accepted)],
            [[f"r{number}", 1, reason] for number in range(rejected)],
        ]
    ]


def test_a_flood_keeps_the_work_and_a_larger_share_finishes_it(tmp_path, capsys):
    output = tmp_path / "out"
    assert run(tmp_path, sources=records(98, 4)) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"rag-beam: {output}: 4 of 102 records were rejected (bad_json 4)")
    assert "--max_rejects 0.01" in message
    assert message.count("\n") == 1
    assert not (output / "manifest.json").exists()
    assert [row["record_id"] for row in read_rejects(output)] == ["r0", "r1", "r2", "r3"]
    assert len(computed(tmp_path / "records.json")) == 2

    assert run(tmp_path, "--max_rejects", "0.03") == 1  # still too many
    assert run(tmp_path, "--max_rejects", "0.05") == 0
    assert len(computed(tmp_path / "records.json")) == 2
    assert manifest_of(output).counts.rejected == {"bad_json": 4}
    assert read_table(output).num_rows == 98
    assert len(read_rejects(output)) == 4


def test_duplicates_count_as_rejected_records(tmp_path, capsys):
    sources: Sources = [[[[f"a{number % 100}", 1, "accept"] for number in range(102)]]]
    assert run(tmp_path, sources=sources) == 1
    assert "2 of 102 records were rejected (duplicate_id 2)" in capsys.readouterr().err


def test_a_truncated_file_among_few_records_is_a_flood_until_it_is_allowed(tmp_path, capsys):
    sources = records(20, 1, "truncated_file")
    assert run(tmp_path, sources=sources) == 1
    assert "truncated_file 1" in capsys.readouterr().err
    assert run(tmp_path, "--max_rejects", "0.5") == 0
    assert manifest_of(tmp_path / "out").counts.rejected == {"truncated_file": 1}


def test_a_flood_folder_is_unfinished_to_the_next_stage(tmp_path):
    from pipelines.dataset.reader import open_dataset
    from pipelines.filesystems import STORAGE
    from rag_core.errors import UsageError

    assert run(tmp_path, sources=records(98, 4)) == 1
    with pytest.raises(UsageError, match="is unfinished"):
        open_dataset(STORAGE, str(tmp_path / "out"), "passages")


@pytest.mark.parametrize(
    "accepted, rejected, max_rejects, flood",
    [
        (1_000, 0, 0.01, False),
        (990, 10, 0.01, False),  # exactly one in a hundred
        (989, 11, 0.01, True),
        (0, 99, 0.01, False),  # below a hundred records a share says nothing
        (0, 100, 0.01, True),
        (98, 1, 0.0, False),
        (99, 1, 0.0, True),
        (50, 50, 0.5, False),
        (0, 1_000, 1.0, False),
    ],
)
def test_flood_at_the_boundary(accepted, rejected, max_rejects, flood):
    counts = Counts(read=accepted + rejected, accepted=accepted)
    counts.rejected["bad_row"] = rejected
    counts.left_out["redirect"] = 10**6  # what is left out by design is no part of the share
    assert is_flood(counts, max_rejects) is flood


@pytest.mark.parametrize(
    "accepted, max_rejects, flood", [(99, 0.01, False), (98, 0.01, True), (9, 0.1, False), (8, 0.1, True)]
)
def test_a_truncated_file_is_judged_however_few_records_there_are(accepted, max_rejects, flood):
    """It is one reject that stands for an unknown number of records."""
    counts = Counts(read=accepted + 1, accepted=accepted)
    counts.rejected["truncated_file"] = 1
    assert is_flood(counts, max_rejects) is flood


def test_the_message_counts_the_reasons_and_says_how_to_go_on():
    counts = Counts(accepted=100)
    counts.rejected.update({"bad_row": 3, "duplicate_id": 1_200})
    message = flood_message("out/passages", counts, 0.25)
    assert "1,203 of 1,303 records" in message
    assert "(duplicate_id 1,200, bad_row 3)" in message
    assert "--max_rejects 0.25" in message
    assert "out/passages/rejects" in message


def test_counts_add_up_and_travel_as_json():
    one, other = Counts(read=3, accepted=2, rows_written=5), Counts(read=4, accepted=4, rows_written=4)
    one.rejected["bad_row"] += 1
    other.left_out["redirect"] += 2
    other.extra["pairs_saved"] += 7
    total = Counts.total([one, other])
    assert total.to_json() == {
        "read": 7,
        "accepted": 6,
        "left_out": {"redirect": 2},
        "rejected": {"bad_row": 1},
        "rows_written": 9,
        "pairs_saved": 7,
    }
    assert Counts.from_json(total.to_json()) == total
    assert total.summary() == (
        "7 read, 6 accepted, 2 left out (redirect 2), 1 rejected (bad_row 1), 9 rows written"
    )
    assert one.read == 3  # the sum is a new one


def test_a_run_without_rejects_leaves_no_folder_of_rejects(finished, tmp_path):
    assert (finished / "out" / "rejects").is_dir()
    assert run(tmp_path, sources=records(3, 0)) == 0
    assert not (tmp_path / "out" / "rejects").exists()
