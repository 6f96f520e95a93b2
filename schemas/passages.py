"""`passages`: the retrieved units, 100 words each unless asked otherwise."""

import pyarrow as pa

from schemas.field import field

SCHEMA = pa.schema(
    [
        field("passage_id", pa.string(), "the source's own id, else {document_id}#{passage_number}"),
        field("document_id", pa.string(), "the source's own id, else {file stem}:{0-based record}"),
        field("passage_number", pa.int32(), "place of the passage in its document, from 0"),
        field("title", pa.string(), "title of the document; may be empty"),
        field("text", pa.string(), "the passage's words"),
    ]
)
