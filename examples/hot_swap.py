"""Exchanges the index under the same model and shows how the answers follow (section 4.5 of the paper).

Run `python -m examples.hot_swap`. Nothing is trained: the questions about offices that changed hands are
answered from an index of 2018 and from one of 2024, each held against the answers of both years.
"""

from collections.abc import Sequence
from pathlib import Path

from examples.compose import DATES
from examples.scores import read_scores
from pipelines import run

RUN_FILE = Path(__file__).parent / "hot_swap.yaml"
OUTPUT = Path(__file__).parents[1] / "out" / "hot_swap"


def table(output: Path) -> str:
    """Exact match by the index's date and the answers' date."""
    lines = [f"{'exact match':<16}" + "".join(f"answers of {date:<8}" for date in DATES)]
    for index in DATES:
        scores = [read_scores(output / f"index_{index}_answers_{answers}") for answers in DATES]
        values = [of_answers["exact_match"] for of_answers in scores]
        lines.append(f"index of {index:<7}" + "".join(f"{value:<19.3f}" for value in values).rstrip())
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is not done yet and prints the table; arguments go to `rag-beam run`."""
    status = run.main([str(RUN_FILE), "--output", str(OUTPUT), *(argv or [])])
    if status == 0:
        print(f"\n{table(OUTPUT)}")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
