"""Tables as the stages wrote them."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """All rows of a dataset on disk."""
    return [row for part in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]


def read_scores(folder: Path) -> dict[str, float]:
    """Metric to value over all questions."""
    return {row["metric"]: row["value"] for row in read_rows(folder) if row["slice"] is None}
