"""Scores as `rag-beam evaluate` writes them."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas import TABLES


def write_scores(folder: Path, values: Mapping[str, float]) -> None:
    """A part with these metrics over all questions, and one of a slice, which readers are to leave aside."""
    rows = [
        {"metric": metric, "value": value, "n": 10, "ci_low": 0.0, "ci_high": 1.0, "slice": part}
        for metric, number in values.items()
        for part, value in ((None, number), ("phrasing_split=shared", 0.5))
    ]
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLES["scores"]), folder / "part-00000-00000.parquet")
