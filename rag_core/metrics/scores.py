"""What an evaluation returns, and how metrics are asked for by name."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rag_core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Score:
    """One row of the scores table.

    Attributes:
      metric: its name, as in `ANSWER_METRICS`, `LABEL_METRICS` or `RETRIEVAL_METRICS`; with
        `MINUS_BASELINE` at its end where the value is a difference.
      value: a fraction in [0, 1], BLEU-1 included (not per cent); a difference is in [−1, 1].
      n: how many items the value is taken over; items that the metric cannot judge (a question
        without gold answers) are not among them.
      ci_low: lower end of the 95 % bootstrap interval.
      ci_high: upper end of it.
      slice: which part of the items this is about, such as `label=REFUTES`; None for all of them.
    """

    metric: str
    value: float
    n: int
    ci_low: float
    ci_high: float
    slice: str | None = None


def select_metrics(
    asked: Sequence[str] | None, known: Sequence[str], cutoff_families: Sequence[str] = ()
) -> tuple[str, ...]:
    """The metrics to compute, each once, in the order asked for; all known ones where None is asked.

    Args:
      asked: names, or None.
      known: the names offered by default.
      cutoff_families: metrics that take any cut-off: `recall` admits `recall@7`.

    Raises:
      UsageError: an unknown name; the message gives the nearest one and all of them.
    """
    if asked is None:
        return tuple(known)
    for name in asked:
        family, cutoff = split_cutoff(name)
        if name not in known and not (family in cutoff_families and cutoff is not None):
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ";"
            raise UsageError(f"--metrics {name}: unknown metric{hint} there are {', '.join(known)}")
    return tuple(dict.fromkeys(asked))


def split_cutoff(name: str) -> tuple[str, int | None]:
    """`("recall", 20)` of `recall@20`; the cut-off is None where the name has none, or not from 1 up."""
    match = re.fullmatch(r"(\w+)@([1-9][0-9]*)", name)
    return (match[1], int(match[2])) if match else (name, None)
