"""Scores as `rag-beam evaluate` wrote them."""

from pathlib import Path

import pyarrow.parquet as pq


def read_scores(folder: Path) -> dict[str, float]:
    """Metric to value over all questions."""
    rows = [row for part in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]
    return {row["metric"]: row["value"] for row in rows if row["slice"] is None}
