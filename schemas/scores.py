"""`scores`: what an evaluation found."""

import pyarrow as pa

from schemas.field import field

SCHEMA = pa.schema(
    [
        field("metric", pa.string(), "exact_match, f1, recall@20, …"),
        field("value", pa.float64(), "the score, as a fraction of 1 unless the metric says otherwise"),
        field("n", pa.int64(), "items that the value is taken over"),
        field("ci_low", pa.float64(), "lower end of the 95 % bootstrap interval"),
        field("ci_high", pa.float64(), "upper end of the 95 % bootstrap interval"),
        field("slice", pa.string(), "the part of the items it is about; null: all of them", nullable=True),
    ]
)
