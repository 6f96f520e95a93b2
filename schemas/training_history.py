"""`training_history`: how a run of training stood at its start, at each validation and at its end."""

import pyarrow as pa

from schemas.field import field, list_of

_FIGURE = pa.struct(
    [
        field("name", pa.string(), "what the figure is called"),
        field("value", pa.float64(), "its value"),
    ]
)

SCHEMA = pa.schema(
    [
        field("step", pa.int64(), "steps done; 0 is before training"),
        field(
            "loss",
            pa.float64(),
            "mean training loss since the row before; null before training",
            nullable=True,
        ),
        field("learning_rate", pa.float64(), "of the last step"),
        field(
            "gradient_norm",
            pa.float64(),
            "mean since the row before, before gradients are scaled down; null before training",
            nullable=True,
        ),
        field("figures", list_of("figure", _FIGURE), "means since the row before of what else a step tells"),
        field("scores", list_of("score", _FIGURE), "of the validation; empty without one"),
        field("best", pa.bool_(), "whether these were the best scores so far: the last such row was saved"),
        field("seconds", pa.float64(), "spent on training so far, interrupted runs included"),
    ]
)
