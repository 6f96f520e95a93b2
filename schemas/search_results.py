"""`search_results`: rows of the index found for each question, committed on the way to retrievals."""

import pyarrow as pa

from schemas.field import field, list_of

SCHEMA = pa.schema(
    [
        field(
            "rows",
            list_of("row", pa.int64()),
            "rows of the index, best first; -1 in the last places where an approximate search found fewer",
        ),
        field("scores", list_of("score", pa.float32()), "their inner products with the question's vector"),
    ]
)
