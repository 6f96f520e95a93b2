"""From the states of a text's tokens to one vector."""

from enum import StrEnum


class Pooling(StrEnum):
    """`FIRST_TOKEN` is DPR's and BERT's `[CLS]`; `MEAN` is over all tokens, special ones included."""

    FIRST_TOKEN = "cls"
    MEAN = "mean"
