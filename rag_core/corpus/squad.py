"""SQuAD's JSON (1.1 and 2.0): its paragraphs as documents, titled with their article.

A SQuAD file is one JSON object. Its articles are parsed one after the other, so memory is bounded by
the largest article.
"""

import codecs
import json
import re
from collections.abc import Iterable, Iterator

from rag_core.corpus.files import MAX_RECORD_BYTES, DamagedFileError, read_blocks
from rag_core.corpus.rows import BadRecord, Row, convert_rows, string_field, to_document
from rag_core.corpus.source import Source
from rag_core.records import Document, LeftOut, Passage, Reject, RejectReason
from rag_core.storage import Storage

_DATA = re.compile(r'"data"\s*:\s*\[')
_SEPARATOR = re.compile(r"[\s,]*")


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
    for article in _read_articles(blocks):
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


def _read_articles(blocks: Iterable[bytes]) -> Iterator[object]:
    """The elements of the list `data`, each parsed as soon as it is whole."""
    parse = json.JSONDecoder().raw_decode
    text = _Text(blocks)
    while (match := _DATA.search(text.held)) is None:
        if not text.read():
            raise DamagedFileError('ends without the list "data" that SQuAD files have')
    text.drop(match.end())
    while True:
        text.drop(_separator_end(text.held))
        if text.held.startswith("]"):
            return
        try:
            article, end = parse(text.held)
        except (ValueError, RecursionError) as error:
            if not text.read():
                raise DamagedFileError(
                    f"ends before its JSON does ({error}); what came before is kept"
                ) from error
        else:
            yield article
            text.drop(end)


def _separator_end(text: str) -> int:
    match = _SEPARATOR.match(text)
    return match.end() if match else 0


class _Text:
    """The text read and not yet parsed."""

    def __init__(self, blocks: Iterable[bytes]):
        self._blocks = iter(blocks)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.held = ""

    def drop(self, characters: int) -> None:
        self.held = self.held[characters:]

    def read(self) -> bool:
        """Adds as much as is held, so that re-parsing costs no more than reading; False at the end."""
        wanted = 2 * len(self.held) + 1
        before = len(self.held)
        parts = [self.held]
        while before < wanted and (block := next(self._blocks, None)) is not None:
            try:
                parts.append(self._decoder.decode(block))
            except UnicodeDecodeError as error:
                raise DamagedFileError(f"not UTF-8 ({error.reason}); what came before is kept") from error
            before += len(parts[-1])
        self.held = "".join(parts)
        if len(self.held) > MAX_RECORD_BYTES:
            raise DamagedFileError(f"an article is longer than {MAX_RECORD_BYTES:,} characters")
        return len(parts) > 1
