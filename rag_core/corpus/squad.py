"""SQuAD's JSON (1.1 and 2.0): its paragraphs as documents, titled with their article.

A SQuAD file is one JSON object. Its articles are parsed one after the other, so memory is bounded by
the largest article.
"""

import re
from collections.abc import Iterable, Iterator

from rag_core.corpus.files import read_blocks
from rag_core.corpus.json_list import read_elements
from rag_core.corpus.rows import BadRecord, Row, convert_rows, string_field, to_document
from rag_core.corpus.source import Source
from rag_core.records import Document, LeftOut, Passage, Reject, RejectReason
from rag_core.storage import Storage

_DATA = re.compile(r'"data"\s*:\s*\[')


def read_squad(storage: Storage, source: Source) -> Iterator[Document | Passage | LeftOut | Reject]:
    """The paragraphs of a SQuAD file; a paragraph's number counts over the whole file."""
    return convert_rows(source, read_paragraphs(read_blocks(storage, source)), _to_document)


def _to_document(row: Row, source: Source, position: int) -> Document | Passage | LeftOut:
    fields = {"title": row.get("title"), "text": string_field(row, "context")}
    return to_document(fields, source, position)


def read_paragraphs(blocks: Iterable[bytes]) -> Iterator[Row | BadRecord]:
    """Each paragraph with its article's title: `title`, `context`, `qas`.

    Raises:
      DamagedFileError: the JSON ends early or goes wrong; what came before was given out.
    """
    for article in read_elements(blocks, _DATA, 'the list "data" that SQuAD files have'):
        if isinstance(article, BadRecord):
            yield article
            continue
        if not isinstance(article, dict) or not isinstance(article.get("paragraphs"), list):
            yield BadRecord(RejectReason.BAD_FIELD, "expected an article with a list 'paragraphs'")
            continue
        for paragraph in article["paragraphs"]:
            if isinstance(paragraph, dict):
                yield {**paragraph, "title": article.get("title")}
            else:
                yield BadRecord(
                    RejectReason.BAD_FIELD, f"expected a paragraph, got {type(paragraph).__name__}"
                )
