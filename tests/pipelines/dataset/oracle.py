"""What the small stage must give, by plain loops over its records."""

from dataclasses import dataclass, field
from typing import Any

from rag_core.records import LeaveOutReason
from tests.pipelines.dataset.small_stage import Sources


@dataclass
class Expected:
    """Rows by source in order, rejects as (source file, position, id, reason), and the ledger."""

    rows: list[list[dict[str, Any]]] = field(default_factory=list)
    rejects: list[tuple[str, int, str, str]] = field(default_factory=list)
    read: int = 0
    accepted: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)

    @property
    def all_rows(self) -> list[dict[str, Any]]:
        return [row for rows in self.rows for row in rows]


def expect(sources: Sources, *, unique: bool, flavour: str = "plain") -> Expected:
    """Goes through the records one by one; of equal ids the first in order is kept."""
    expected = Expected()
    met: set[str] = set()
    for source, units in enumerate(sources):
        rows: list[dict[str, Any]] = []
        for number, records in enumerate(units):
            for position, (record_id, count, fate) in enumerate(records):
                expected.read += 1
                if fate in set(LeaveOutReason):
                    expected.left_out[fate] = expected.left_out.get(fate, 0) + 1
                    continue
                if fate == "accept" and unique and record_id in met:
                    fate = "duplicate_id"
                if fate != "accept":
                    expected.rejected[fate] = expected.rejected.get(fate, 0) + 1
                    origin = f"{'odd' if position % 2 else 'even'}-{source}.txt"
                    expected.rejects.append((origin, position, record_id, fate))
                    continue
                met.add(record_id)
                expected.accepted += 1
                place = f"{source}-{number}-{position}"
                rows += [
                    {
                        "passage_id": record_id if row == 0 else f"{record_id}/{row}",
                        "document_id": place,
                        "passage_number": row,
                        "title": "",
                        "text": f"{flavour} {place}",
                    }
                    for row in range(count)
                ]
        expected.rows.append(rows)
    return expected
