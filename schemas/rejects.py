"""`rejects`: records that could not be used, and why."""

import pyarrow as pa

from schemas.field import field

SCHEMA = pa.schema(
    [
        field("stage", pa.string(), "the stage that met the record"),
        field("source", pa.string(), "path of the file it stands in"),
        field("position", pa.int64(), "0-based row or page; the byte where no record could be told apart"),
        field("record_id", pa.string(), "the record's id; null where it has none", nullable=True),
        field("reason", pa.string(), "a code: bad_json, duplicate_id, not_finite, …"),
        field("message", pa.string(), "what was expected, what was found, what to do"),
        field("excerpt", pa.string(), "the start of the record, at most 200 characters"),
    ]
)
