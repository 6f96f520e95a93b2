"""The plan of a run: what its steps are estimated to take, in a file and as a table, and beside it what they took."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipelines.dataset.manifest import CREATED_BY
from pipelines.estimates.forecasts import Estimate
from pipelines.filesystems import STORAGE
from rag_core.errors import UsageError
from rag_core.storage import join

PLAN = "plan.json"  # in the run's output, beside the steps' folders

_SIZES = ("B", "kB", "MB", "GB", "TB")
_UNKNOWN = "–"


@dataclass(frozen=True)
class Outcome:
    """What a step's output is and, where this run made it, what that took.

    Attributes:
      seconds: None where nothing was left to do.
      memory_bytes: allocated by this process at its peak.
      resumed: whether an earlier run had begun it: then the time is of the rest only.
    """

    rows: int
    parts: int
    disk_bytes: int
    seconds: float | None = None
    memory_bytes: int = 0
    resumed: bool = False


@dataclass(frozen=True)
class PlannedStep:
    """A step as it stands before a run.

    Attributes:
      state: `complete`, `unfinished` or `to do`.
      outcome: of a step that is complete.
      estimate: of one that is not; None where its stage cannot tell.
    """

    name: str
    stage: str
    state: str
    outcome: Outcome | None = None
    estimate: Estimate | None = None


def write_plan(output: str, steps: Sequence[PlannedStep]) -> None:
    """Notes the estimates in the run's output, for the run to come."""
    content = {
        "created_by": CREATED_BY,
        "steps": {
            step.name: {
                "stage": step.stage,
                "state": step.state,
                "estimate": step.estimate and step.estimate.to_json(),
            }
            for step in steps
        },
    }
    with STORAGE.create(join(output, PLAN)) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False).encode())


def read_plan(output: str) -> dict[str, Estimate] | None:
    """The estimates that `write_plan` noted, by step; None where no plan was made.

    Raises:
      UsageError: the file is not what `write_plan` writes.
    """
    path = join(output, PLAN)
    try:
        with STORAGE.open(path) as file:
            steps = json.loads(file.read())["steps"]
        estimates = {name: step["estimate"] for name, step in steps.items()}
        return {name: Estimate.from_json(fields) for name, fields in estimates.items() if fields}
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"{path}: expected what rag-beam run --plan writes, got something else ({error!r}); remove it, or plan "
            "again"
        ) from error


def plan_table(steps: Sequence[PlannedStep]) -> str:
    """A line a step, and the totals."""
    header = ["step", "stage", "state", "rows", "time", "disk", "at its peak", "memory", "parts", "notes"]
    lines = [header]
    seconds, left, peak = 0.0, 0, 0
    for step in steps:
        known = [step.name, step.stage, step.state]
        if step.outcome is not None:
            done = step.outcome
            lines.append([*known, f"{done.rows:,}", "", size(done.disk_bytes), "", "", f"{done.parts:,}", ""])
            left += done.disk_bytes
        elif step.estimate is None:
            lines.append([*known, *[_UNKNOWN] * 6, "not estimated"])
        else:
            plan = step.estimate
            lines.append(
                [
                    *known,
                    f"{plan.rows:,}",
                    duration(plan.seconds),
                    size(plan.disk_bytes),
                    size(plan.peak_disk_bytes),
                    size(plan.memory_bytes),
                    f"{plan.parts:,}",
                    "; ".join(plan.notes),
                ]
            )
            seconds += plan.seconds
            peak = max(peak, left + plan.peak_disk_bytes)
            left += plan.disk_bytes
    peak = max(peak, left)
    total = f"in all about {duration(seconds)}; on the disk {size(left)}, {size(peak)} at the peak"
    return f"{_aligned(lines)}\n{total}"


def comparison_table(estimates: Mapping[str, Estimate], outcomes: Mapping[str, Outcome]) -> str:
    """Estimate and fact of each step side by side, and how many times the time was the estimated one."""
    lines = [["estimate / fact", "time", "ratio", "disk", "memory", "rows", "parts"]]
    for name, fact in outcomes.items():
        plan = estimates.get(name)
        facts = [size(fact.disk_bytes), size(fact.memory_bytes), f"{fact.rows:,}", f"{fact.parts:,}"]
        if fact.seconds is None:
            facts[1] = ""
            lines.append([name, "nothing to do", "", *facts])
            continue
        took = duration(fact.seconds) + (" for the rest" if fact.resumed else "")
        ratio = f"{fact.seconds / plan.seconds:.2f}" if plan and not fact.resumed else ""
        planned = [_UNKNOWN] * 5
        if plan is not None:
            planned = [
                duration(plan.seconds),
                size(plan.disk_bytes),
                size(plan.memory_bytes),
                f"{plan.rows:,}",
                f"{plan.parts:,}",
            ]
        time, *others = (f"{left} / {right}" for left, right in zip(planned, [took, *facts], strict=True))
        lines.append([name, time, ratio, *others])
    return _aligned(lines)


def duration(seconds: float) -> str:
    """A time for people, in at most two units: `3.4 s`, `34 s`, `5 min 20 s`, `1 h 20 min`, `3 d 4 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, lower, lower_name in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= unit:
            # rounded to the lower unit first: 59 min 59.7 s is 1 h
            count, rest = divmod(round(seconds / lower), unit // lower)
            return f"{count} {name} {rest} {lower_name}" if rest else f"{count} {name}"
    return f"{whole} s"


def size(count: float) -> str:
    """Bytes for people, in decimal units: `12 kB`, `1.2 GB`."""
    number = 0
    while count >= 999.5 and number + 1 < len(_SIZES):
        count /= 1000
        number += 1
    return f"{count:.1f} {_SIZES[number]}" if number and count < 9.95 else f"{count:.0f} {_SIZES[number]}"


def _aligned(lines: Iterable[Sequence[str]]) -> str:
    rows = list(lines)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
    return "\n".join(padded)
