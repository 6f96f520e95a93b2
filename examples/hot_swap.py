"""Exchanges the index under the same model and shows how the answers follow (section 4.5 of the paper).

Run `python -m examples.hot_swap`. Nothing is trained: the questions about offices that changed hands are
answered from an index of 2018 and from one of 2024, each held against the answers of both years.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from examples.compose import DATES
from pipelines import run

RUN_FILE = Path(__file__).parent / "hot_swap.yaml"
OUTPUT = Path(__file__).parents[1] / "out" / "hot_swap"


def exact_match(scores: Path) -> float:
    """The exact match over all questions, from a folder of scores."""
    rows = [row for part in sorted(scores.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]
    [value] = [row["value"] for row in rows if row["metric"] == "exact_match" and row["slice"] is None]
    return float(value)


def table(output: Path) -> str:
    """Exact match by the index's date and the answers' date."""
    lines = [f"{'exact match':<16}" + "".join(f"answers of {date:<8}" for date in DATES)]
    for index in DATES:
        values = [exact_match(output / f"index_{index}_answers_{answers}") for answers in DATES]
        lines.append(f"index of {index:<7}" + "".join(f"{value:<19.3f}" for value in values))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is not done yet and prints the table; arguments go to `rag-beam run`."""
    status = run.main([str(RUN_FILE), "--output", str(OUTPUT), *(argv or [])])
    if status == 0:
        print(f"\n{table(OUTPUT)}")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
