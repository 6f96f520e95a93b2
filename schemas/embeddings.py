"""`embeddings`: one vector a passage, in the same parts and row order as the passages.

The vector's length and precision are the encoder's and `--vector_dtype`'s, so the schema of a data
set is made by `embeddings_schema`; `SCHEMA` stands for all of them.
"""

import pyarrow as pa

from schemas.field import field, list_of

CONTENT_HASH_BYTES = 16

_PASSAGE_ID = field("passage_id", pa.string(), "the passage that was encoded")
_DESCRIPTION = "d(z), the passage encoder's output; its inner product with q(x) is the score"
_CONTENT_HASH = field(
    "content_hash",
    pa.binary(CONTENT_HASH_BYTES),
    "BLAKE2b of the passage's title and text, by which a later run knows that they have not changed",
    nullable=True,
)

SCHEMA = pa.schema(
    [_PASSAGE_ID, field("vector", list_of("value", pa.float32()), _DESCRIPTION), _CONTENT_HASH]
)


def embeddings_schema(dimension: int, vector_dtype: str) -> pa.Schema:
    """The schema with vectors of `dimension` values of `vector_dtype` (`float16` or `float32`)."""
    value_type = {"float16": pa.float16(), "float32": pa.float32()}[vector_dtype]
    vector = pa.list_(value_type, dimension)  # an item field of our own would be lost in pickling
    return pa.schema([_PASSAGE_ID, field("vector", vector, _DESCRIPTION), _CONTENT_HASH])
