"""KILT's knowledge source: one Wikipedia page a JSON line, its text a list of paragraphs.

Of KILT's markers, `Section::::History.:Early years.` becomes the line `Early years`, `BULLET::::- item`
becomes `item`; the first paragraph, which repeats the title, is dropped.
"""

import re
from collections.abc import Iterator

from rag_core.corpus.files import read_blocks, read_lines
from rag_core.corpus.json_lines import read_json_lines
from rag_core.corpus.rows import BadRecord, Row, convert_rows, string_field, to_document
from rag_core.corpus.source import Source
from rag_core.corpus.wikiextractor import without_title
from rag_core.records import Document, LeftOut, Passage, Reject, RejectReason
from rag_core.storage import Storage

_SECTION = "Section::::"
_BULLET = re.compile(r"^BULLET::::[-*#:;]*\s*")


def read_kilt(storage: Storage, source: Source) -> Iterator[Document | Passage | LeftOut | Reject]:
    """The pages of a KILT knowledge source, under their Wikipedia ids."""
    rows = read_json_lines(read_lines(read_blocks(storage, source)))
    return convert_rows(source, rows, _to_document)


def _to_document(row: Row, source: Source, position: int) -> Document | Passage | LeftOut:
    paragraphs = row.get("text")
    if not isinstance(paragraphs, list) or not all(isinstance(paragraph, str) for paragraph in paragraphs):
        raise BadRecord(RejectReason.BAD_FIELD, "field 'text': expected a list of strings (paragraphs)")
    title = string_field(row, "wikipedia_title", required=False)
    text = without_title("\n".join(filter(None, map(_plain, paragraphs))), title)
    return to_document({"id": row.get("wikipedia_id"), "title": title, "text": text}, source, position)


def _plain(paragraph: str) -> str:
    paragraph = paragraph.strip()
    if paragraph.startswith(_SECTION):
        return paragraph.removeprefix(_SECTION).removesuffix(".").rsplit(".:", 1)[-1]
    return _BULLET.sub("", paragraph)
