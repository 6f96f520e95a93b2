"""What became of each record: read = accepted + left out + rejected."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rag_core.errors import RagBeamError
from rag_core.records import RejectReason

# below this many records a share says nothing: a run of 20 with one bad line is no flood
_FLOOD_MINIMUM_RECORDS = 100


class TooManyRejects(RagBeamError):
    """More records were rejected than --max_rejects allows."""


@dataclass
class Counts:
    """Records of the input, and rows written (several passages may come of one document).

    `extra` holds what else a stage counts, such as pair scorings saved.
    """

    read: int = 0
    accepted: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    rows_written: int = 0
    extra: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Counts") -> None:
        """Adds another unit's counts to these."""
        self.read += other.read
        self.accepted += other.accepted
        self.left_out.update(other.left_out)
        self.rejected.update(other.rejected)
        self.rows_written += other.rows_written
        self.extra.update(other.extra)

    def to_json(self) -> dict[str, Any]:
        counts: dict[str, Any] = {
            "read": self.read,
            "accepted": self.accepted,
            "left_out": dict(sorted(self.left_out.items())),
            "rejected": dict(sorted(self.rejected.items())),
            "rows_written": self.rows_written,
        }
        return counts | dict(sorted(self.extra.items()))

    @classmethod
    def from_json(cls, counts: dict[str, Any]) -> "Counts":
        known = ("read", "accepted", "left_out", "rejected", "rows_written")
        return cls(
            read=counts["read"],
            accepted=counts["accepted"],
            left_out=Counter(counts["left_out"]),
            rejected=Counter(counts["rejected"]),
            rows_written=counts["rows_written"],
            extra=Counter({key: value for key, value in counts.items() if key not in known}),
        )

    @classmethod
    def total(cls, parts: "list[Counts]") -> "Counts":
        """The sum of many."""
        total = cls()
        for part in parts:
            total.add(part)
        return total

    def summary(self) -> str:
        """One line for people."""
        pieces = [f"{self.read:,} read", f"{self.accepted:,} accepted"]
        for name, reasons in (("left out", self.left_out), ("rejected", self.rejected)):
            if reasons:
                detail = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
                pieces.append(f"{reasons.total():,} {name} ({detail})")
        pieces.append(f"{self.rows_written:,} rows written")
        return ", ".join(pieces)


def is_flood(counts: Counts, max_rejects: float) -> bool:
    """Whether more than `max_rejects` of accepted + rejected records were rejected.

    A share of few records says nothing, so fewer than 100 never make a flood, unless a file among
    them was truncated: that one reject stands for an unknown number of records.
    """
    judged = counts.accepted + counts.rejected.total()
    if judged < _FLOOD_MINIMUM_RECORDS and not counts.rejected[RejectReason.TRUNCATED_FILE]:
        return False
    return counts.rejected.total() > max_rejects * judged


def flood_message(folder: str, counts: Counts, max_rejects: float) -> str:
    """Says what was rejected, where to look and how to go on."""
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.rejected.most_common())
    return (
        f"{folder}: {counts.rejected.total():,} of {counts.accepted + counts.rejected.total():,} records were "
        f"rejected ({reasons}), more than --max_rejects {max_rejects:g} allows. The work is kept and the rejects "
        f"lie under {folder}/rejects: mend the input, or run again with a larger --max_rejects"
    )
