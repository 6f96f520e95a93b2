"""`--reuse` of generate and classify, and `compare`: only what changed is answered again, and it is told why."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.transforms import earlier_rows
from schemas import TABLES
from tests.pipelines.commands import manifest_of, rag_beam, read_table, status_of
from tests.pipelines.conftest import World
from tests.rag_core.tiny_generators import save_rag_checkpoint

ANSWERING: dict[str, dict[str, Any]] = {
    "rag_sequence": {"model_type": "rag_sequence", "max_new_tokens": 4, "num_beams": 2},
    "rag_token": {"model_type": "rag_token", "max_new_tokens": 4, "num_beams": 2, "token_posteriors": True},
    "labels": {"label_set": ["SUPPORTS=yes", "REFUTES=no"]},
}
# of the ten questions of the world: what a night brings
TEXT, SCORE, GONE, SWAPPED, RENAMED = 1, 2, 3, 5, 6


@pytest.fixture(scope="module")
def nights(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Retrievals of two nights: a text, a score, passages and questions change from one to the next."""
    folder = tmp_path_factory.mktemp("nights")
    before = read_table(world.made("retrievals")).to_pylist()
    after = copy.deepcopy(before)
    after[TEXT]["passages"][0]["text"] += " It has a new bridge."
    score = np.float32(after[SCORE]["passages"][0]["score"])
    after[SCORE]["passages"][0]["score"] = float(np.nextafter(score, np.float32(np.inf)))
    after[SWAPPED]["passages"][-1] = {**after[SWAPPED]["passages"][-1], "passage_id": "new#0"}
    after[RENAMED]["question_id"] = "renamed"
    del after[GONE]
    after.insert(0, {**copy.deepcopy(after[0]), "question_id": "asked_first", "question": "Who lives there?"})
    for name, rows in (("before", before), ("after", after)):
        table = pa.Table.from_pylist(rows, schema=TABLES["retrievals"])
        pq.write_table(table, folder / f"{name}.parquet")
    return folder / "before.parquet", folder / "after.parquet"


@pytest.fixture
def answer(world: World, tmp_path: Path) -> Callable[..., pa.Table]:
    """Answers or labels retrievals into a folder; two questions a unit, so that units move."""

    def run(kind: str, retrievals: Path, name: str, **options: Any) -> pa.Table:
        rag_beam(
            "classify" if kind == "labels" else "generate",
            retrievals=retrievals,
            model=world.generator,
            num_threads=1,
            unit_rows=3,
            output=tmp_path / name,
            **ANSWERING[kind] | options,
        )
        return read_table(tmp_path / name)

    return run


@pytest.mark.parametrize(
    "kind", [pytest.param("rag_sequence", marks=pytest.mark.slow), "rag_token", "labels"]
)
def test_what_is_kept_and_what_is_answered_again_are_a_full_run_byte_by_byte(
    nights: tuple[Path, Path], answer: Callable[..., pa.Table], tmp_path: Path, kind: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(earlier_rows, "_READ_ON_ROWS", 1)
    before = answer(kind, nights[0], "before", own_batches=True)
    full = answer(kind, nights[1], "full", own_batches=True)
    refreshed = answer(kind, nights[1], "refreshed", own_batches=True, reuse=tmp_path / "before")
    assert refreshed.equals(full)
    manifest = manifest_of(tmp_path / "refreshed")
    # new: asked_first; changed: text, score, swapped; the renamed one is the same question
    assert manifest.counts.extra["reused"] == before.num_rows - 4
    assert manifest.fingerprint == manifest_of(tmp_path / "full").fingerprint
    assert manifest.details["reused"]["fingerprint"] == manifest_of(tmp_path / "before").fingerprint


@pytest.mark.slow
def test_in_shared_batches_what_is_kept_is_as_it_was_and_the_rest_differs_by_rounding(
    nights: tuple[Path, Path], answer: Callable[..., pa.Table], tmp_path: Path
) -> None:
    before = {row["question_id"]: row for row in answer("rag_sequence", nights[0], "before").to_pylist()}
    full = answer("rag_sequence", nights[1], "full").to_pylist()
    refreshed = answer("rag_sequence", nights[1], "refreshed", reuse=tmp_path / "before").to_pylist()
    kept = {"q0", "q4", "q7", "q8", "q9"}
    assert [row for row in refreshed if row["question_id"] in kept] == [before[name] for name in sorted(kept)]
    for one, other in zip(refreshed, full, strict=True):
        assert (one["question_id"], one["answer"]) == (other["question_id"], other["answer"])
        assert one["log_prob"] == pytest.approx(other["log_prob"], abs=1e-5)
        for left, right in zip(one["passages"], other["passages"], strict=True):
            assert left["posterior"] == pytest.approx(right["posterior"], abs=1e-5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_beams": 3}, "num_beams was 2, is 3"),
        ({"own_batches": True}, "own_batches was None, is True"),
        ({"dtype": "bfloat16"}, "dtype was 'float32', is 'bfloat16'"),
    ],
)
def test_answers_that_this_run_would_not_give_are_refused(
    world: World,
    nights: tuple[Path, Path],
    answer: Callable[..., pa.Table],
    tmp_path: Path,
    options: dict[str, Any],
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer("rag_token", nights[0], "before")
    command = {"retrievals": nights[1], "model": world.generator, "output": tmp_path / "after"}
    command |= {"reuse": tmp_path / "before", "unit_rows": 2}
    assert status_of("generate", **command, **ANSWERING["rag_token"] | options) == 2
    told = capsys.readouterr().err
    assert expected in told and "unit_rows" not in told and told.count("\n") == 1
    assert not (tmp_path / "after").exists()


def test_answers_of_another_model_or_maker_are_refused(
    nights: tuple[Path, Path],
    answer: Callable[..., pa.Table],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = answer("rag_token", nights[0], "before")
    save_rag_checkpoint(tmp_path / "other_model", seed=5)
    pq.write_table(before, tmp_path / "elsewhere.parquet")
    for earlier, model, expected in (
        ("before", "other_model", "model was"),
        ("elsewhere.parquet", "other_model", "does not tell its model"),
    ):
        command = {"retrievals": nights[1], "model": tmp_path / model, "output": tmp_path / "after"}
        assert status_of("generate", **command, **ANSWERING["rag_token"], reuse=tmp_path / earlier) == 2
        assert expected in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["rag_token", "labels"])
def test_changes_tell_the_answers_and_the_passages(
    nights: tuple[Path, Path], answer: Callable[..., pa.Table], tmp_path: Path, kind: str
) -> None:
    told = "label" if kind == "labels" else "answer"
    before = {row["question_id"]: row for row in answer(kind, nights[0], "before").to_pylist()}
    after = {row["question_id"]: row for row in answer(kind, nights[1], "after").to_pylist()}
    rag_beam("compare", before=tmp_path / "before", after=tmp_path / "after", output=tmp_path / "changes")
    rows = {row["question_id"]: row for row in read_table(tmp_path / "changes").to_pylist()}
    assert list(rows) == ["asked_first", "q1", "q2", "q5", "renamed", "q3", "q6"]
    for name in ("q1", "q2", "q5"):
        same = before[name][told] == after[name][told]
        assert rows[name]["change"] == ("same_answer" if same else "new_answer")
        assert (rows[name]["answer_before"], rows[name]["answer_after"]) == (
            before[name][told],
            after[name][told],
        )
        assert rows[name]["question_before"] is None
    assert [rows[name]["change"] for name in ("asked_first", "renamed", "q3", "q6")] == [
        *("new_question", "new_question", "gone_question", "gone_question")
    ]
    [text] = rows["q1"]["passages"]
    assert (text["change"], text["text_after"]) == ("text", text["text_before"] + " It has a new bridge.")
    [score] = rows["q2"]["passages"]
    assert score["change"] == "score" and score["score_after"] > score["score_before"]
    assert (score["posterior_before"], score["posterior_after"]) == (
        before["q2"]["passages"][0]["posterior"],
        after["q2"]["passages"][0]["posterior"],
    )
    came, left = rows["q5"]["passages"]
    assert (came["change"], came["passage_id"], came["rank_before"], came["rank_after"]) == (
        *("came", "new#0", None, 4),
    )
    assert (left["change"], left["rank_before"], left["text_after"]) == ("left", 4, None)
    assert rows["q3"]["passages"] == rows["asked_first"]["passages"] == []
    assert manifest_of(tmp_path / "changes").counts.extra["gone_question"] == 2
    assert status_of("verify", str(tmp_path / "changes")) == 0


@pytest.mark.slow
def test_equal_runs_have_no_changes(
    nights: tuple[Path, Path],
    answer: Callable[..., pa.Table],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer("rag_token", nights[0], "before")
    answer("rag_token", nights[0], "after", own_batches=True)  # another rounding is no change
    rag_beam("compare", before=tmp_path / "before", after=tmp_path / "after", output=tmp_path / "changes")
    assert "0 answers changed" in capsys.readouterr().out
    assert manifest_of(tmp_path / "changes").counts.rows_written == 0
    for command in ("inspect", "verify"):
        assert status_of(command, str(tmp_path / "changes")) == 0
