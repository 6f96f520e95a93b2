"""DPR's passage files: `id`, `text`, `title` separated by tabs, one passage a line.

Quotes come in three ways, all met in published files: enclosed as CSV has it (`"a ""b"" c"`), doubled
without enclosing (`a ""b"" c`), and single in the middle (`a "b" c`). All three read as `a "b" c`.
"""

from collections.abc import Iterator

from rag_core.corpus.delimited import Dialect, read_rows
from rag_core.corpus.files import read_blocks, read_lines
from rag_core.corpus.rows import BadRecord, Row, convert_rows
from rag_core.corpus.source import Source
from rag_core.records import LeaveOutReason, LeftOut, Passage, Reject, RejectReason
from rag_core.storage import Storage

HEADER = ["id", "text", "title"]


def read_dpr_tsv(storage: Storage, source: Source) -> Iterator[Passage | LeftOut | Reject]:
    """The passages of a DPR file, under the ids that it gives them."""
    return convert_rows(source, _read_rows(storage, source), _to_passage)


def _read_rows(storage: Storage, source: Source) -> Iterator[Row | BadRecord | None]:
    lines = read_lines(read_blocks(storage, source))
    rows = read_rows(lines, Dialect("\t", undouble=True), columns=len(HEADER))
    for number, row in enumerate(rows):
        if row is None or isinstance(row, BadRecord):
            yield row
        elif number > 0 or row != HEADER:
            yield dict(zip(HEADER, row, strict=True))


def _to_passage(row: Row, source: Source, position: int) -> Passage | LeftOut:
    text = str(row["text"])
    if not text.strip():
        return LeftOut(LeaveOutReason.EMPTY_DOCUMENT, position)
    if not row["id"]:
        raise BadRecord(RejectReason.BAD_FIELD, "column 'id' is empty; DPR's passages bring their ids")
    return Passage(str(row["id"]), source.record_id(position), 0, str(row["title"]), text, position)
