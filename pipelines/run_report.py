"""What a run did, step by step: for its last line, and for its metrics."""

import time
from collections import Counter
from dataclasses import dataclass, field

from pipelines.dataset.ledger import Counts
from pipelines.dataset.manifest import Manifest

_ANSWERING = ("generate", "classify")
CHANGE_KINDS = ("new_answer", "same_answer", "new_question", "gone_question")


@dataclass(frozen=True)
class StepReport:
    """What became of a step.

    Attributes:
      made: whether this run made the output; else it was there.
      seconds: that the step took, looking for what is done included.
    """

    name: str
    stage: str
    made: bool
    seconds: float
    counts: Counts

    def records(self) -> dict[str, int]:
        """Records by what this run did with them."""
        counts = self.counts
        kept = counts.extra["reused"] if self.made else counts.accepted
        return {
            "new": counts.accepted - kept,
            "kept": kept,
            "rejected": counts.rejected.total(),
            "left_out": counts.left_out.total(),
        }


@dataclass
class RunReport:
    """What a run did so far.

    Attributes:
      night: the number of the night that was made; None where nothing was to do, or the run file has no nights.
      changes: how many questions changed in which way, by the step that answered them.
    """

    steps: list[StepReport] = field(default_factory=list)
    changes: dict[str, Counter[str]] = field(default_factory=dict)
    night: int | None = None
    begin: float = field(default_factory=time.monotonic)

    def add(self, name: str, stage: str, manifest: Manifest, *, made: bool, seconds: float) -> None:
        """Enters a step that is complete."""
        self.steps.append(StepReport(name, stage, made, seconds, manifest.counts))

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self.begin

    def summary(self, exit_status: int) -> str:
        """One line of name=value pairs, always the same names in the same order."""
        records: Counter[str] = Counter()
        for step in self.steps:
            if step.stage in _ANSWERING:
                records.update(step.records())
        changes: Counter[str] = Counter()
        for counts in self.changes.values():
            changes.update(counts)
        values = {
            "status": exit_status,
            "night": self.night or "none",
            "answered": records["new"],
            "kept": records["kept"],
            "rejected": records["rejected"],
            **{kind: changes[kind] for kind in CHANGE_KINDS},
            "seconds": f"{self.seconds:.1f}",
        }
        return "run: " + " ".join(f"{name}={value}" for name, value in values.items())
