"""`retrievals`: each question with its passages, best first."""

import pyarrow as pa

from schemas.field import field, list_of
from schemas.questions import QUESTION_FIELDS

PASSAGE_FIELDS = [
    field("passage_id", pa.string(), "the passage"),
    field("document_id", pa.string(), "the document it was cut from"),
    field("title", pa.string(), "the document's title"),
    field("text", pa.string(), "the passage's words"),
]
SCORE_FIELD = field("score", pa.float32(), "inner product d(z)·q(x)")

RETRIEVAL_HASH_BYTES = 16
# of what was made from a retrieval
RETRIEVAL_HASH_FIELD = field(
    "retrieval_hash",
    pa.binary(RETRIEVAL_HASH_BYTES),
    "BLAKE2b of what the row was made from besides the model: question, passages and scores; by it a later run "
    "knows that they have not changed",
    nullable=True,
)

RETRIEVED_PASSAGE = pa.struct([*PASSAGE_FIELDS, SCORE_FIELD])

SCHEMA = pa.schema(
    [
        *QUESTION_FIELDS,
        field(
            "passages", list_of("passage", RETRIEVED_PASSAGE), "the top K, by falling score, then passage_id"
        ),
    ]
)
