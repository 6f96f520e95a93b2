"""What became of runs that were struck, and the report on all of them."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Round:
    """What became of one subject: struck some times, then run to its end.

    Attributes:
      subject: a step, or `run` for all of them in one command.
      blows: those that struck, as text: what, when, at which step, and how many units were whole then.
      kills: how many of them were SIGKILL, by the step that was at work.
      late: blows that would have come after the command's end.
      whole: units (of training: steps up to a checkpoint) that were whole at the blows, all together.
      begun: units (of training: steps) begun, all runs together.
      again: of these, begun a second time, since they were not whole.
      records: that were read again for them.
      problems: what was not as it must be.
    """

    number: int
    subject: str
    blows: list[str] = field(default_factory=list)
    kills: dict[str, int] = field(default_factory=dict)
    late: int = 0
    whole: int = 0
    begun: int = 0
    again: int = 0
    records: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        blows = "; ".join(self.blows) or "struck too late"
        return f"round {self.number}, {self.subject}: {blows}: {'; '.join(self.problems) or 'equal'}"


def report(rounds: list[Round]) -> str:
    """What became of all rounds, for people."""
    kills = sum((Counter(item.kills) for item in rounds), Counter())
    others = sum(len(item.blows) for item in rounds) - kills.total()
    lines = [
        f"{len(rounds)} rounds: {kills.total()} runs killed, {others} interrupted or terminated, "
        f"{sum(item.late for item in rounds)} blows too late",
        f"whole at these moments: {sum(item.whole for item in rounds):,} units or steps of training",
        f"begun in all runs: {sum(item.begun for item in rounds):,}, of which a second time, as they were not whole: "
        f"{sum(item.again for item in rounds):,} ({sum(item.records for item in rounds):,} records)",
        "kills by the step that was at work: "
        + ", ".join(f"{name} {count}" for name, count in kills.items()),
        f"problems: {sum(len(item.problems) for item in rounds)}",
    ]
    return "\n".join([*lines, *(str(item) for item in rounds if item.problems)])
