"""What the rows of each table must fulfil: finite vectors, probabilities that sum to 1, scores that fall."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.transforms.vectors import vector_matrix

# probabilities are computed in float64; those of single tokens are stored in float32
_SUM_TOLERANCE = 1e-6
_FLOAT32_TOLERANCE = 1e-4

Broken = Iterator[tuple[int, str]]


@dataclass(frozen=True)
class Rule:
    """What to look for in a batch of a table.

    Attributes:
      broken: (row of the batch, sentence) of each row that breaks it.
      note: what is in order where none does, to be put behind what else is.
    """

    broken: Callable[[pa.RecordBatch], Broken]
    note: str


def _vectors(batch: pa.RecordBatch) -> Broken:
    finite = np.isfinite(vector_matrix(batch.column("vector"), "vector")).all(axis=1)
    for row in np.flatnonzero(~finite):
        yield int(row), "its vector holds NaN or infinity, expected numbers"


def _retrievals(batch: pa.RecordBatch) -> Broken:
    yield from _falling(_Lists(batch.column("passages")))


def _answers(batch: pa.RecordBatch) -> Broken:
    # their passages are in the order of the retrievals, which may have been made elsewhere
    passages = _Lists(batch.column("passages"))
    yield from _distribution(passages, "prior")
    yield from _distribution(passages, "posterior")
    yield from _log_probs(np.arange(batch.num_rows), batch.column("log_prob"), "log_prob")
    scored = passages.values("log_prob", null=0.0)
    yield from _log_probs(passages.rows, scored, "passages.log_prob")
    bounds = batch.column("answer_bound").to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(~(bounds >= 0)):
        yield int(row), f"answer_bound is {bounds[row]}, expected a number from 0"
    for row in np.flatnonzero(
        ~np.isin(np.array(batch.column("finish_reason").to_pylist(), dtype=object), ["end", "length"])
    ):
        yield int(row), "finish_reason is neither end nor length"
    yield from _tokens(batch, passages)


def _tokens(batch: pa.RecordBatch, passages: "_Lists") -> Broken:
    """Each token's posterior is a distribution over the row's passages."""
    tokens = _Lists(batch.column("tokens"))
    yield from _log_probs(tokens.rows, tokens.values("log_prob"), "tokens.log_prob")
    inner = _Lists(tokens.column("posterior"))
    expected = passages.lengths[tokens.rows]
    for token in np.flatnonzero(inner.lengths != expected):
        yield (
            int(tokens.rows[token]),
            f"a token has a posterior over {inner.lengths[token]} passages, expected {expected[token]}",
        )
    weights = inner.flat.to_numpy(zero_copy_only=False)
    yield from _in_unit(tokens.rows[inner.rows], weights, "tokens.posterior")
    sums = _sums(inner, weights)
    wrong = (inner.lengths > 0) & ~(np.abs(sums - 1) <= _FLOAT32_TOLERANCE)
    for token in np.flatnonzero(wrong):
        yield int(tokens.rows[token]), f"tokens.posterior of a token sums to {sums[token]:.9g}, expected 1"


def _labels(batch: pa.RecordBatch) -> Broken:
    labels = _Lists(batch.column("label_probs"))
    yield from _distribution(labels, "prob")
    yield from _log_probs(labels.rows, labels.values("log_prob"), "label_probs.log_prob")
    passages = _Lists(batch.column("passages"))
    yield from _distribution(passages, "prior")
    yield from _distribution(passages, "posterior")
    inner = _Lists(passages.column("label_probs"))
    yield from _in_unit(
        passages.rows[inner.rows], inner.flat.to_numpy(zero_copy_only=False), "passages.label_probs"
    )
    probs = labels.values("prob")
    names = labels.column("label").to_pylist()
    for row, label in enumerate(batch.column("label").to_pylist()):
        own = slice(labels.edges[row], labels.edges[row + 1])
        if own.start == own.stop or names[own][int(np.argmax(probs[own]))] != label:
            yield row, f"label is {label!r:.80}, expected the first of the most probable ones"


def _scores(batch: pa.RecordBatch) -> Broken:
    value, low, high = (
        batch.column(name).to_numpy(zero_copy_only=False) for name in ("value", "ci_low", "ci_high")
    )
    for row in np.flatnonzero(~((np.abs(value) <= 1) & (low <= high))):
        yield (
            int(row),
            f"value {value[row]} in [{low[row]}, {high[row]}], expected fractions of 1 and their interval",
        )


def _history(batch: pa.RecordBatch) -> Broken:
    steps = batch.column("step").to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(np.diff(steps) < 0) + 1:
        yield int(row), f"step {steps[row]} follows on step {steps[row - 1]}, expected rising ones"


RULES = {
    "embeddings": Rule(_vectors, "; vectors finite"),
    "question_vectors": Rule(_vectors, "; vectors finite"),
    "retrievals": Rule(_retrievals, "; scores fall"),
    "answers": Rule(_answers, "; priors and posteriors are distributions"),
    "labels": Rule(_labels, "; labels, priors and posteriors are distributions"),
    "scores": Rule(_scores, "; values are fractions of 1"),
    "training_history": Rule(_history, "; steps rise"),
}


class _Lists:
    """A column of lists, flat: one entry an item, with the row that it belongs to.

    Attributes:
      flat: the items.
      lengths: int64 [N], items of each row; 0 of a null.
      edges: int64 [N + 1], where each row's items begin and end in `flat`.
      rows: int64, the row of each item.
    """

    def __init__(self, column: pa.Array) -> None:
        self.flat = column.flatten()  # without what lies under nulls
        self.lengths = np.array(column.value_lengths().fill_null(0), dtype=np.int64)
        self.edges = np.concatenate([[0], np.cumsum(self.lengths)])
        self.rows = np.repeat(np.arange(len(self.lengths)), self.lengths)

    def column(self, name: str) -> pa.Array:
        """A field of the items."""
        return self.flat.field(name)

    def values(self, name: str, null: float | None = None) -> np.ndarray:
        """A field's numbers; `null` in place of nulls."""
        column = self.column(name)
        return (column if null is None else column.fill_null(null)).to_numpy(zero_copy_only=False)


def _falling(passages: _Lists) -> Broken:
    """Scores fall within a row; of equal ones, passage ids rise."""
    scores = passages.values("score")
    for place in np.flatnonzero(~np.isfinite(scores)):
        yield int(passages.rows[place]), f"passages.score is {scores[place]}, expected a number"
    together = passages.rows[1:] == passages.rows[:-1]
    for place in np.flatnonzero(together & (scores[1:] > scores[:-1])):
        yield (
            int(passages.rows[place]),
            f"passages.score {scores[place + 1]} follows on {scores[place]}, expected falling ones",
        )
    ids = passages.column("passage_id")
    for place in np.flatnonzero(together & (scores[1:] == scores[:-1])):
        before, after = ids[int(place)].as_py(), ids[int(place) + 1].as_py()
        if before >= after:
            yield (
                int(passages.rows[place]),
                f"passage {after!r} follows on {before!r} with the same score, expected rising ids",
            )


def _distribution(items: _Lists, name: str) -> Broken:
    """The numbers of a row lie in [0, 1] and sum to 1, where it has any."""
    values = items.values(name)
    yield from _in_unit(items.rows, values, name)
    sums = _sums(items, values)
    for row in np.flatnonzero((items.lengths > 0) & ~(np.abs(sums - 1) <= _SUM_TOLERANCE)):
        yield int(row), f"{name} sums to {sums[row]:.9g}, expected 1"


def _in_unit(rows: np.ndarray, values: np.ndarray, name: str) -> Broken:
    for place in np.flatnonzero(~((values >= 0) & (values <= 1 + _SUM_TOLERANCE))):
        yield int(rows[place]), f"{name} is {values[place]}, expected a number from 0 to 1"


def _log_probs(rows: np.ndarray, values: pa.Array | np.ndarray, name: str) -> Broken:
    numbers = values if isinstance(values, np.ndarray) else values.to_numpy(zero_copy_only=False)
    for place in np.flatnonzero(~((numbers <= _SUM_TOLERANCE) & (numbers > -np.inf))):
        yield int(rows[place]), f"{name} is {numbers[place]}, expected a number of at most 0"


def _sums(items: _Lists, values: np.ndarray) -> np.ndarray:
    return np.bincount(items.rows, weights=values.astype(np.float64), minlength=len(items.lengths))
