"""FEVER's Wikipedia pages (`wiki-NNN.jsonl`, also inside their zip archive): introductions, tokenised.

The document id is FEVER's own (`Soul_Food_-LRB-film-RRB-`), so that evidence can be matched; title and
text have their brackets and colons back (`Soul Food (film)`).
"""

import re
from collections.abc import Iterator

from rag_core.corpus.files import read_blocks, read_lines
from rag_core.corpus.json_lines import read_json_lines
from rag_core.corpus.rows import Row, convert_rows, id_field, string_field, to_document
from rag_core.corpus.source import Source
from rag_core.records import Document, LeftOut, Passage, Reject
from rag_core.storage import Storage

_TOKEN = re.compile(r"-(LRB|RRB|LSB|RSB|LCB|RCB|COLON)-")
_CHARACTER = {"LRB": "(", "RRB": ")", "LSB": "[", "RSB": "]", "LCB": "{", "RCB": "}", "COLON": ":"}


def read_fever_wiki(storage: Storage, source: Source) -> Iterator[Document | Passage | LeftOut | Reject]:
    """The pages of a FEVER file."""
    rows = read_json_lines(read_lines(read_blocks(storage, source)))
    return convert_rows(source, rows, _to_document)


def _to_document(row: Row, source: Source, position: int) -> Document | Passage | LeftOut:
    page = id_field(row, "id") or ""
    text = decode_brackets(string_field(row, "text")).strip()
    return to_document({"id": page, "title": page_title(page), "text": text}, source, position)


def page_title(page: str) -> str:
    """The title of a page by its FEVER id."""
    return decode_brackets(page).replace("_", " ")


def decode_brackets(text: str) -> str:
    """Puts characters back that FEVER writes as tokens (`-LRB-` for an opening bracket)."""
    return _TOKEN.sub(lambda match: _CHARACTER[match[1]], text)
