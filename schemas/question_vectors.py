"""`question_vectors`: encoded questions, committed on the way from questions to retrievals."""

import pyarrow as pa

from schemas.field import field, list_of
from schemas.questions import QUESTION_FIELDS

_DESCRIPTION = "q(x), the question encoder's output, float32 whatever precision the encoder ran in"

SCHEMA = pa.schema([*QUESTION_FIELDS, field("vector", list_of("value", pa.float32()), _DESCRIPTION)])


def question_vectors_schema(dimension: int) -> pa.Schema:
    """The schema with vectors of `dimension` values."""
    vector = pa.list_(pa.float32(), dimension)
    return pa.schema([*QUESTION_FIELDS, field("vector", vector, _DESCRIPTION)])
