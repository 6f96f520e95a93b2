"""`questions`: questions to answer, or claims to classify."""

import pyarrow as pa

from schemas.field import field, list_of

QUESTION_FIELDS = [
    field("question_id", pa.string(), "the source's own id, else {file stem}:{0-based row}"),
    field("question", pa.string(), "the question or claim, as written"),
    field(
        "answers",
        list_of("answer", pa.string()),
        "gold answers or the gold label; null where unknown",
        nullable=True,
    ),
]

SCHEMA = pa.schema(QUESTION_FIELDS)
