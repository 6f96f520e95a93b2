"""`scores`: what an evaluation found."""

import pyarrow as pa

from schemas.field import field

SCHEMA = pa.schema(
    [
        field(
            "metric",
            pa.string(),
            "exact_match, f1, recall@20, …; exact_match_minus_baseline: the mean over the questions of the "
            "difference to the baseline",
        ),
        field("value", pa.float64(), "the score, as a fraction of 1; a difference is between -1 and 1"),
        field("n", pa.int64(), "items that the value is taken over"),
        field(
            "ci_low",
            pa.float64(),
            "lower end of the 95 % bootstrap interval; of a difference: paired, the same items drawn for both",
        ),
        field("ci_high", pa.float64(), "upper end of the 95 % bootstrap interval"),
        field(
            "slice",
            pa.string(),
            "the part of the items it is about: FIELD=VALUE of the references, label=LABEL, or several joined by "
            "commas; null: all of them",
            nullable=True,
        ),
    ]
)
