"""What `benchmarks/local_scaling.py` has measured, and the table and the comparisons that are made of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks.report import Comparison

Seconds = dict[int, list[float]]  # by number of workers, run by run; what is compared with comes first


@dataclass
class Measured:
    """What the commands of a stage took.

    Attributes:
      rows: of the output; of an index, its vectors.
      seconds: of the whole work.
      start_seconds: of the same command on one document and one question.
      differing: runs whose files are not those of the first one with the same input.
    """

    stage: str
    rows: int = 0
    seconds: Seconds = field(default_factory=dict)
    start_seconds: Seconds = field(default_factory=dict)
    differing: list[str] = field(default_factory=list)

    @property
    def counts(self) -> list[int]:
        """The numbers of workers; the others are compared with the first."""
        return list(self.seconds)

    def speed_up(self, count: int) -> float:
        """How many times faster so many workers do the work than the first number of them."""
        return median(self.seconds[self.counts[0]]) / median(self.seconds[count])

    def speed_up_beyond_start(self, count: int) -> float | None:
        """The same of the seconds that exceed a start; None where runs do not stand out from starts."""
        both = (self.counts[0], count)
        if any(min(self.seconds[n]) <= max(self.start_seconds[n]) for n in both):
            return None
        few, many = (median(self.seconds[n]) - median(self.start_seconds[n]) for n in both)
        return few / many


def table(measured: Sequence[Measured], empty: Sequence[float]) -> str:
    """Medians (least to most) by stage and number of workers, speed-ups, starts, and what differed."""
    counts = measured[0].counts
    several = len(counts) > 2
    header = ["stage", "rows", *(f"{_workers(count)}, s" for count in counts)]
    for count in counts[1:]:
        of = f" of {count}" if several else ""
        header += [f"speed-up{of}", f"beyond start{of}"]
    header += [*(f"start of {_workers(count)}, s" for count in counts), "equal"]
    lines = [_line(header), "|" + "---|" * len(header)]
    for item in measured:
        cells = [item.stage, f"{item.rows:,}", *(_spread(item.seconds[count]) for count in counts)]
        for count in counts[1:]:
            beyond = item.speed_up_beyond_start(count)
            cells += [f"{item.speed_up(count):.2f}", "–" if beyond is None else f"{beyond:.2f}"]
        cells += [_spread(item.start_seconds[count]) for count in counts]
        lines.append(_line([*cells, "NO" if item.differing else "yes"]))
    lines += ["", f"an empty command: {_spread(empty)} s"]
    lines += [f"{item.stage} differs: {what}" for item in measured for what in item.differing]
    return "\n".join(lines)


def compare(
    measured: Sequence[Measured], empty: Sequence[float], settings: dict[str, Any]
) -> list[Comparison]:
    """Each further number of workers against the first, stage by stage."""
    return [
        Comparison(
            name=f"{item.stage}, {_workers(count)}, peer: {_workers(item.counts[0])}",
            unit="s",
            ours=median(item.seconds[count]),
            peer=median(item.seconds[item.counts[0]]),
            ratio=item.speed_up(count),
            runs=len(item.seconds[count]),
            settings=settings | {"empty_seconds": list(empty)} | asdict(item),
            agrees=not item.differing,
        )
        for item in measured
        for count in item.counts[1:]
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _workers(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"


def _spread(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.1f} ({min(seconds):.1f}–{max(seconds):.1f})"
