"""Answers or labels of two runs to what became of each question: the work of the `compare` stage."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.dataset.reader import Dataset
from pipelines.dataset.unit import Unit, UnitWriter
from pipelines.filesystems import STORAGE
from pipelines.transforms.earlier_rows import EarlierRows
from pipelines.transforms.units import Work
from schemas import TABLES

# a row may have fifty passages with their texts, on both sides
_BATCH_ROWS = 200

_COLUMNS = {
    "answers": ("question_id", "question", "answer", "log_prob", "passages", "retrieval_hash"),
    "labels": ("question_id", "question", "label", "label_probs", "passages", "retrieval_hash"),
}
_CONTENT = ("title", "text")


@dataclass(frozen=True)
class Loaded:
    """The rows of both runs, by question id."""

    before: EarlierRows
    after: EarlierRows


class FindChanges(Work):
    """Compares two runs' rows question by question; what is as it was has no row."""

    def __init__(self, before: Dataset, after: Dataset, *, unit_rows: int):
        """Both data sets are answers, or both are labels."""
        self._before = before
        self._after = after
        self._unit_rows = unit_rows

    def plan(self) -> Iterator[Unit]:
        """Runs of the rows after, then runs of those before, for what is gone."""
        for source, dataset in enumerate((self._after, self._before)):
            for number, begin in enumerate(range(0, dataset.rows, self._unit_rows)):
                end = min(begin + self._unit_rows, dataset.rows)
                yield Unit(source, number, {"begin": begin, "end": end}, (dataset.path,), records=end - begin)

    def load(self) -> Loaded:
        return Loaded(EarlierRows(self._before, "question_id"), EarlierRows(self._after, "question_id"))

    def compute(self, unit: Unit, loaded: Loaded, writer: UnitWriter) -> None:
        rows = self._gone(unit, loaded.after) if unit.source else self._changed(unit, loaded.before)
        for compared, changes in rows:
            writer.read(compared)
            writer.accept(compared)
            for change in changes:
                writer.counts.extra[change["change"]] += 1
            if changes:
                writer.write(pa.RecordBatch.from_pylist(changes, schema=TABLES["changes"]))

    def _changed(self, unit: Unit, before: EarlierRows) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """How many rows after were compared, and what is new or another among them."""
        for batch in self._read(self._after, unit, _COLUMNS[self._after.table]):
            rows = before.find(batch.column("question_id").to_pylist())
            wanted, place = np.unique(rows[rows >= 0], return_inverse=True)
            earlier = pa.Table.from_batches(
                before.read(wanted, _COLUMNS[self._before.table]),
                schema=pa.schema(
                    [TABLES[self._before.table].field(name) for name in _COLUMNS[self._before.table]]
                ),
            ).take(pa.array(place))
            found = np.full(len(rows), -1)
            found[rows >= 0] = np.arange(len(place))
            yield batch.num_rows, self._differences(batch, earlier, found)

    def _differences(
        self, after: pa.RecordBatch, before: pa.Table, found: np.ndarray
    ) -> list[dict[str, Any]]:
        """The changes of rows after; `found` is where each question stands in `before`, or −1."""
        told = "answer" if self._after.table == "answers" else "label"
        cheap = ["question", told, "retrieval_hash"]
        left, right = (rows.select(cheap).to_pylist() for rows in (before, after))
        changes = []
        for row, place in enumerate(found):
            if place < 0:
                changes.append(_change("new_question", None, after.slice(row, 1).to_pylist()[0]))
            elif right[row]["retrieval_hash"] is None or left[place] != right[row]:
                one, other = before.slice(place, 1).to_pylist()[0], after.slice(row, 1).to_pylist()[0]
                passages = _changed_passages(one["passages"], other["passages"])
                if one[told] != other[told]:
                    changes.append(_change("new_answer", one, other, passages))
                elif passages or one["question"] != other["question"]:
                    changes.append(_change("same_answer", one, other, passages))
        return changes

    def _gone(self, unit: Unit, after: EarlierRows) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """No row compared (those after were), and the questions that only the run before has."""
        for batch in self._read(self._before, unit, _COLUMNS[self._before.table]):
            missing = np.flatnonzero(after.find(batch.column("question_id").to_pylist()) < 0)
            rows = batch.take(pa.array(missing)).to_pylist()
            yield len(rows), [_change("gone_question", row, None) for row in rows]

    def _read(self, dataset: Dataset, unit: Unit, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
        begin, end = unit.content["begin"], unit.content["end"]
        return dataset.read(STORAGE, begin=begin, end=end, batch_rows=_BATCH_ROWS, columns=columns)


def _change(
    change: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    passages: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """A row of the changes table."""
    now = after or before
    assert now is not None  # a question stands in one of the two
    renamed = before is not None and before["question"] != now["question"]
    return {
        "question_id": now["question_id"],
        "question": now["question"],
        "question_before": before["question"] if before is not None and renamed else None,
        "change": change,
        "answer_before": before and _answer(before)[0],
        "answer_after": after and _answer(after)[0],
        "log_prob_before": before and _answer(before)[1],
        "log_prob_after": after and _answer(after)[1],
        "passages": passages or [],
    }


def _answer(row: dict[str, Any]) -> tuple[str, float]:
    """The answer or label of a row, and its log p(y|x)."""
    if "answer" in row:
        return row["answer"], row["log_prob"]
    label = row["label"]
    return label, next(item["log_prob"] for item in row["label_probs"] if item["label"] == label)


def _changed_passages(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The passages that came, left or are not what they were."""
    earlier = {passage["passage_id"]: (rank, passage) for rank, passage in enumerate(before, start=1)}
    changes = []
    for rank, passage in enumerate(after, start=1):
        known = earlier.pop(passage["passage_id"], None)
        if known is None:
            changes.append(_passage("came", None, (rank, passage)))
        elif any(known[1][name] != passage[name] for name in _CONTENT):
            changes.append(_passage("text", known, (rank, passage)))
        elif known[1]["score"] != passage["score"]:
            changes.append(_passage("score", known, (rank, passage)))
    return changes + [_passage("left", known, None) for known in earlier.values()]


def _passage(
    change: str, before: tuple[int, dict[str, Any]] | None, after: tuple[int, dict[str, Any]] | None
) -> dict[str, Any]:
    """A passage of the changes table, from its rank and row on each side."""
    now = after or before
    assert now is not None
    row = {name: now[1][name] for name in ("passage_id", "document_id", "title")} | {"change": change}
    for side, known in (("before", before), ("after", after)):
        row |= {
            f"text_{side}": known and known[1]["text"],
            f"rank_{side}": known and known[0],
            f"score_{side}": known and known[1]["score"],
            f"posterior_{side}": known and known[1]["posterior"],
        }
    return row
