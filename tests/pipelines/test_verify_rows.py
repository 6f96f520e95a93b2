"""`rag-beam verify` finds wrong rows, though the manifest was made to fit them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.proofs.unique_ids import UniqueIds
from tests.pipelines.damage import changed_rows, copied, rewrite_part, verify

Rows = list[dict[str, Any]]


def on_passage(name: str, value: Any, row: int = 2, place: int = 0) -> Callable[[Rows], object]:
    return lambda rows: rows[row]["passages"][place].update({name: value})


def swap_passages(rows: Rows) -> None:
    passages = rows[2]["passages"]
    passages[0], passages[1] = passages[1], passages[0]


def equal_scores_falling_ids(rows: Rows) -> None:
    for passage, passage_id in zip(rows[2]["passages"], "dcba", strict=True):
        passage |= {"score": 1.0, "passage_id": passage_id}


def not_finite(rows: Rows) -> None:
    rows[2]["vector"][3] = math.nan


def infinite(rows: Rows) -> None:
    rows[2]["vector"][3] = math.inf


def shift_token_posterior(rows: Rows) -> None:
    rows[2]["tokens"][0]["posterior"][0] += 0.01


def shorten_token_posterior(rows: Rows) -> None:
    rows[2]["tokens"][0]["posterior"].pop()


def shift_label(rows: Rows) -> None:
    rows[2]["label_probs"][0]["prob"] += 0.01


def other_label(rows: Rows) -> None:
    rows[2]["label"] = "REFUTES" if rows[2]["label"] == "SUPPORTS" else "SUPPORTS"


def same_interval(rows: Rows) -> None:
    rows[2] |= {"ci_low": 0.9, "ci_high": 0.1}


CASES: list[tuple[str, Callable[[Rows], object], str]] = [
    ("embeddings", not_finite, "its vector holds NaN or infinity"),
    ("embeddings", infinite, "its vector holds NaN or infinity"),
    ("retrievals", swap_passages, "expected falling ones"),
    ("retrievals", equal_scores_falling_ids, "passage 'c' follows on 'd' with the same score"),
    ("retrievals", on_passage("score", math.nan), "passages.score is nan"),
    ("answers_rag_sequence", on_passage("prior", 0.9), "prior sums to"),
    ("answers_rag_sequence", on_passage("posterior", -0.1), "posterior is -0.1, expected a number from 0"),
    ("answers_rag_sequence", on_passage("posterior", math.nan), "posterior is nan"),
    ("answers_rag_sequence", on_passage("log_prob", 0.5), "passages.log_prob is 0.5, expected"),
    ("answers_rag_sequence", lambda rows: rows[2].update(log_prob=-math.inf), "log_prob is -inf"),
    ("answers_rag_sequence", lambda rows: rows[2].update(answer_bound=-1.0), "answer_bound is -1.0"),
    ("answers_rag_sequence", lambda rows: rows[2].update(finish_reason="bored"), "finish_reason is neither"),
    ("answers_rag_token", on_passage("posterior", 0.9), "posterior sums to"),
    ("answers_rag_token", shift_token_posterior, "tokens.posterior of a token sums to"),
    ("answers_rag_token", shorten_token_posterior, "a posterior over 3 passages, expected 4"),
    ("labels", shift_label, "prob sums to 1.01"),
    ("labels", on_passage("posterior", 1.5), "posterior is 1.5, expected a number from 0 to 1"),
    ("labels", on_passage("label_probs", [0.5, 1.2]), "passages.label_probs is 1.2"),
    ("labels", other_label, "expected the first of the most probable ones"),
    ("scores", lambda rows: rows[2].update(value=1.5), "value 1.5 in"),
    ("scores", same_interval, "expected fractions of 1 and their interval"),
]


@pytest.mark.parametrize(
    ("step", "change", "message"), CASES, ids=[f"{step}-{message[:20]}" for step, _, message in CASES]
)
def test_a_wrong_value(
    whole_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    step: str,
    change: Callable[[Rows], object],
    message: str,
) -> None:
    folder = copied(whole_run / step, tmp_path)
    path = rewrite_part(folder, changed_rows(change))
    said = verify(capsys, folder)
    assert said.status == 1
    assert said.failed == {"values"}
    assert f"{path}: row 2" in said.text and message in said.text


def test_rows_that_are_written_anew_are_proved(
    whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """So it is the change that the tests above find, not the writing."""
    for step in {step for step, _, _ in CASES}:
        folder = copied(whole_run / step, tmp_path)
        rewrite_part(folder, changed_rows(lambda rows: None))
        assert verify(capsys, folder).status == 0


def test_many_failures_are_counted(whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def every(rows: Rows) -> None:
        for row in rows:
            row["finish_reason"] = ""

    folder = copied(whole_run / "answers_rag_token", tmp_path)
    rewrite_part(folder, changed_rows(every))
    said = verify(capsys, folder)
    assert said.text.count("finish_reason is neither") == 5
    assert "and 5 more" in said.text and "10 found" in said.text


def test_an_id_that_stands_twice(whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def repeat(rows: Rows) -> None:
        rows[7]["passage_id"] = rows[2]["passage_id"]

    folder = copied(whole_run / "passages", tmp_path)
    path = rewrite_part(folder, changed_rows(repeat))
    said = verify(capsys, folder)
    assert said.status == 1 and said.failed == {"ids"}
    assert f"{path}: row 7: passage_id 'd1#0' stands in row 2 of {path} already" in said.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda table: table.set_column(
                2, pa.field("passage_number", pa.int64(), nullable=False), table.column(2).cast(pa.int64())
            ),
            "column 'passage_number' is int64 not null, expected int32 not null",
        ),
        (
            lambda table: table.set_column(4, pa.field("text", pa.string()), table.column("text")),
            "column 'text' is string, expected string not null",
        ),
        (lambda table: table.drop_columns("title"), "has no column 'title', expected string not null"),
        (
            lambda table: table.append_column("more", table.column("text")),
            "has a column 'more', expected passage_id, document_id",
        ),
    ],
    ids=["type", "nullable", "missing", "more"],
)
def test_a_wrong_schema(
    whole_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    change: Callable[[pa.Table], pa.Table],
    message: str,
) -> None:
    folder = copied(whole_run / "passages", tmp_path)
    path = rewrite_part(folder, change)
    said = verify(capsys, folder)
    assert said.status == 1 and "schema" in said.failed
    assert f"{path}: {message}" in said.text


def test_a_null_where_none_may_be(whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def without_title(table: pa.Table) -> pa.Table:
        titles = table.column("title").to_pylist()
        titles[3] = None
        return table.set_column(3, pa.field("title", pa.string()), pa.array(titles))

    folder = copied(whole_run / "passages", tmp_path)
    rewrite_part(folder, without_title)
    said = verify(capsys, folder)
    assert said.failed == {"schema", "values"}
    assert "column 'title' holds 1 nulls, expected none" in said.text


def test_parts_with_vectors_of_different_lengths(
    whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def shorter(table: pa.Table) -> pa.Table:
        vectors = [vector[:-1] for vector in table.column("vector").to_pylist()]
        kind = table.schema.field("vector").type
        field = pa.field("vector", pa.list_(kind.value_type, kind.list_size - 1), nullable=False)
        return table.set_column(1, field, pa.array(np.array(vectors, np.float16).tolist(), field.type))

    folder = copied(whole_run / "embeddings", tmp_path)
    rewrite_part(folder, shorter)
    said = verify(capsys, folder)
    assert said.status == 1
    assert "its encoder gives" in said.text


def test_ids_are_compared_within_the_memory_given() -> None:
    generator = np.random.default_rng(0)
    ids = [f"id {number}" for number in generator.integers(0, 3_000, 5_000)]
    seen: dict[str, int] = {}
    expected = sorted((seen[name], row) for row, name in enumerate(ids) if seen.setdefault(name, row) != row)
    for held_keys in (100, 1_000, 1_000_000):
        with UniqueIds(held_keys) as unique:
            for begin in range(0, len(ids), 70):
                part = ids[begin : begin + 70]
                unique.add(part, np.arange(begin, begin + len(part)))
            assert sorted(unique.repeated()) == expected
            assert unique.count == len(ids)
