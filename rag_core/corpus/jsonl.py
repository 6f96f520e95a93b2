"""JSON lines with `text`, and optionally `title` and an id; with `passage_id` a line is a passage."""

from collections.abc import Iterator

from rag_core.corpus.files import read_blocks, read_lines
from rag_core.corpus.json_lines import read_json_lines
from rag_core.corpus.rows import convert_rows, to_document
from rag_core.corpus.source import Source
from rag_core.records import Document, LeftOut, Passage, Reject
from rag_core.storage import Storage


def read_jsonl(storage: Storage, source: Source) -> Iterator[Document | Passage | LeftOut | Reject]:
    """The documents, or passages, of a JSON lines file."""
    rows = read_json_lines(read_lines(read_blocks(storage, source)))
    return convert_rows(source, rows, to_document)
