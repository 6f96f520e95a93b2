"""Tables as the stages wrote them, and the questions that they answer."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """All rows of a dataset on disk."""
    return [row for part in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]


def read_scores(folder: Path) -> dict[str, float]:
    """Metric to value over all questions."""
    return {row["metric"]: row["value"] for row in read_rows(folder) if row["slice"] is None}


def read_questions(*folders: Path) -> dict[str, dict[str, Any]]:
    """The questions or claims of JSONL files, by id."""
    return {
        question["question_id"]: question
        for folder in folders
        for path in sorted(folder.glob("*.jsonl"))
        for question in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    }
