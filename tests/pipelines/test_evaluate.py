"""`evaluate` with slices and a baseline, as a command: hand-worked answers, labels and retrievals."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas import TABLES
from tests.pipelines.commands import manifest_of, rag_beam, read_table, status_of
from tests.pipelines.conftest import write_lines

# question, gold answer, split, year
QUESTIONS = [
    ("q0", "a", "dev", 1),
    ("q1", "b", "dev", 2),
    ("q2", "c", "test", 1),
    ("q3", "d", "test", None),
    ("q4", "e", "", 1),
]
OURS = {"q0": "a", "q1": "b", "q2": "c", "q4": "x", "other": "y"}  # q3 is missing
PEER = {"q4": "x", "q3": "d", "q1": "x", "q0": "a", "q2": "x"}  # in another order


def write_answers(path: Path, answers: dict[str, str]) -> Path:
    rows = [
        {
            "question_id": question_id,
            "question": "?",
            "answer": answer,
            "log_prob": -1.0,
            "finish_reason": "end",
            "candidates": [],
            "passages": [],
            "tokens": None,
            "answer_bound": 0.0,
        }
        for question_id, answer in answers.items()
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLES["answers"]), path)
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    write_lines(
        tmp_path / "references.jsonl",
        [
            {"question_id": question_id, "question": "?", "answers": [gold], "split": split, "year": year}
            for question_id, gold, split, year in QUESTIONS
        ],
    )
    return {
        "predictions": write_answers(tmp_path / "ours.parquet", OURS),
        "references": tmp_path / "references.jsonl",
        "output": tmp_path / "scores",
    }


def scores_in(folder: Path) -> dict[tuple[str, str | None], tuple[float, int]]:
    rows = read_table(folder).to_pylist()
    found = {(row["metric"], row["slice"]): (row["value"], row["n"]) for row in rows}
    assert len(found) == len(rows)
    assert all(row["ci_low"] <= row["value"] <= row["ci_high"] for row in rows)
    return found


def test_slices_by_fields_and_by_their_combinations(files: dict[str, Path], capsys: Any) -> None:
    rag_beam("evaluate", metrics="exact_match", slice_by=["split", "split,year"], **files)
    assert scores_in(files["output"]) == {
        ("exact_match", None): (3 / 5, 5),
        ("exact_match", "split=dev"): (1.0, 2),
        ("exact_match", "split=test"): (1 / 2, 2),  # q3 has no prediction and counts 0
        ("exact_match", "split=dev,year=1"): (1.0, 1),
        ("exact_match", "split=dev,year=2"): (1.0, 1),
        ("exact_match", "split=test,year=1"): (1.0, 1),
    }
    assert "split=test,year=1" in capsys.readouterr().out


def test_the_difference_to_a_baseline(files: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    """Differences 0, +1, +1, −1 (q3 is missing from ours) and 0."""
    baseline = write_answers(tmp_path / "peer.parquet", PEER)
    rag_beam("evaluate", metrics=["exact_match", "bleu_1"], baseline=baseline, slice_by="split", **files)
    found = scores_in(files["output"])
    assert found["exact_match", None] == (3 / 5, 5)
    assert found["exact_match_minus_baseline", None] == (pytest.approx(1 / 5), 5)
    assert found["exact_match", "split=dev"] == (1.0, 2)
    assert [metric for metric, part in found if part is None] == [
        "exact_match",
        "bleu_1",
        "exact_match_minus_baseline",
    ]
    counts = manifest_of(files["output"]).counts.extra
    assert (counts["references_without_prediction"], counts["references_without_baseline"]) == (1, 0)
    assert "exact_match_minus_baseline  +0.2000" in capsys.readouterr().out

    swapped = files | {"predictions": baseline, "output": tmp_path / "swapped"}
    rag_beam("evaluate", metrics="exact_match", baseline=files["predictions"], **swapped)
    assert scores_in(tmp_path / "swapped")["exact_match_minus_baseline", None] == (pytest.approx(-1 / 5), 5)
    assert "1 references have no baseline and count 0" in capsys.readouterr().out


def test_slices_and_baseline_belong_to_the_fingerprint(
    files: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    baseline = write_answers(tmp_path / "peer.parquet", PEER)
    rag_beam("evaluate", baseline=baseline, slice_by="split", **files)
    rag_beam("evaluate", baseline=baseline, slice_by="split", **files)
    assert "nothing to do" in capsys.readouterr().out
    assert status_of("evaluate", baseline=baseline, slice_by="year", **files) == 2
    assert 'slice_by was ["split"], is ["year"]' in capsys.readouterr().err
    assert status_of("evaluate", slice_by="split", **files) == 2
    assert "peer.parquet is no longer an input" in capsys.readouterr().err
    write_answers(baseline, PEER | {"q0": "x"})
    assert status_of("evaluate", baseline=baseline, slice_by="split", **files) == 2
    assert "peer.parquet has changed" in capsys.readouterr().err


def test_without_slices_settings_are_what_they_were(files: dict[str, Path]) -> None:
    rag_beam("evaluate", **files)
    assert "slice_by" not in manifest_of(files["output"]).settings


def test_wrong_fields_and_baselines_are_refused_before_anything_is_written(
    files: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    ours = files["predictions"]
    for options, message in [
        (
            {"slice_by": "splt"},
            "no reference has a field 'splt'; there are question_id, question, answers, split",
        ),
        ({"slice_by": ["split", "split"]}, "each argument once"),
        ({"baseline": tmp_path / "nowhere"}, "nowhere: no such folder or file"),
        (
            {"baseline": ours, "metrics": ["bleu_1"]},
            "differences need a metric that is a mean over questions",
        ),
    ]:
        assert status_of("evaluate", **options, **files) == 2
        assert message in capsys.readouterr().err
        assert not list(files["output"].glob("*"))


def test_a_baseline_of_other_questions_is_refused(
    files: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    baseline = write_answers(tmp_path / "peer.parquet", {"z": "a"})
    assert status_of("evaluate", baseline=baseline, **files) == 2
    assert "peer.parquet: no question_id of it is among the 5 references" in capsys.readouterr().err


def write_retrievals(path: Path, n_docs: int, rank: int) -> Path:
    """Passages of each question, the one with its gold answer at a 0-based rank."""
    rows = [
        {
            "question_id": question_id,
            "question": "?",
            "answers": None,
            "passages": [
                {
                    "passage_id": f"d{number}#0",
                    "document_id": f"d{number}",
                    "title": "",
                    "text": gold if number == rank else "nothing",
                    "score": float(-number),
                }
                for number in range(n_docs)
            ],
        }
        for question_id, gold, *_ in QUESTIONS
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLES["retrievals"]), path)
    return path


def test_retrievals_are_compared_at_the_cut_offs_that_both_have(
    files: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    files["predictions"] = write_retrievals(tmp_path / "twenty.parquet", 20, rank=0)
    baseline = write_retrievals(tmp_path / "five.parquet", 5, rank=3)
    rag_beam("evaluate", baseline=baseline, slice_by="split", **files)
    found = scores_in(files["output"])
    differences = {metric: value for (metric, _), value in found.items() if metric.endswith("_baseline")}
    assert differences == {
        "recall@1_minus_baseline": (1.0, 5),
        "recall@5_minus_baseline": (0.0, 5),
        "mrr_minus_baseline": (0.75, 5),
    }
    assert found["recall@20", "split=dev"] == (1.0, 2)
    files["output"] = tmp_path / "asked"
    assert status_of("evaluate", baseline=baseline, metrics="recall@20", **files) == 2
    error = capsys.readouterr().err
    assert "five.parquet: 'recall@20' was asked for, but no question has more than 5" in error


def test_labels_compare_by_accuracy(tmp_path: Path) -> None:
    gold = ["S", "R", "S", "R"]
    write_lines(
        tmp_path / "claims.jsonl",
        [{"id": n, "claim": "?", "label": label, "split": "xy"[n % 2]} for n, label in enumerate(gold)],
    )
    for name, labels in (("ours", ["S", "R", "S", "S"]), ("peer", ["S", "S", "R", "S"])):
        rows = [
            {"question_id": str(n), "question": "?", "label": label, "label_probs": [], "passages": []}
            for n, label in enumerate(labels)
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=TABLES["labels"]), tmp_path / f"{name}.parquet")
    rag_beam(
        "evaluate",
        predictions=tmp_path / "ours.parquet",
        baseline=tmp_path / "peer.parquet",
        references=tmp_path / "claims.jsonl",
        slice_by="split",
        output=tmp_path / "scores",
    )
    found = scores_in(tmp_path / "scores")
    assert found["accuracy", None] == (3 / 4, 4)
    assert found["accuracy_minus_baseline", None] == (1 / 2, 4)
    assert found["accuracy", "split=x"] == (1.0, 2)
    assert found["accuracy", "split=y"] == (1 / 2, 2)
    assert found["label_recall", "split=y,label=R"] == (1 / 2, 2)
    assert [metric for metric, part in found if metric.endswith("_minus_baseline")] == [
        "accuracy_minus_baseline"
    ]


def test_references_need_no_fields_where_nothing_is_sliced(files: dict[str, Path], tmp_path: Path) -> None:
    asked = [
        {"id": question_id, "question": "?", "answers": [{"text": gold, "answer_start": 0}]}
        for question_id, gold, _, _ in QUESTIONS
    ]
    squad = {"data": [{"title": "T", "paragraphs": [{"context": "a b c d e", "qas": asked}]}]}
    references = tmp_path / "references.json"
    references.write_text(json.dumps(squad))
    rag_beam("evaluate", metrics="exact_match", **files | {"references": references})
    assert scores_in(files["output"]) == {("exact_match", None): (0.6, 5)}
