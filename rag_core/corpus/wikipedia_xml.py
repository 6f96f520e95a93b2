"""MediaWiki XML exports and dumps, plain or compressed, of export versions 0.3 to 0.11.

Pages are cut out of the stream at their tags and each is parsed alone: memory is bounded by a page, a
page that is not well-formed costs only itself, the streams of a multistream dump need no root element,
and no document type definition is ever read, so no entity can expand.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from rag_core.corpus.files import MAX_RECORD_BYTES, DamagedFileError, decode, read_blocks
from rag_core.corpus.rows import BadRecord
from rag_core.corpus.source import Source
from rag_core.corpus.wikitext import MEDIA_NAMESPACES, plain_text
from rag_core.records import EXCERPT_CHARACTERS, Document, LeaveOutReason, LeftOut, Reject, RejectReason
from rag_core.storage import Storage

_PAGE_BEGIN, _PAGE_END = b"<page", b"</page>"
_NAMESPACE = re.compile(r'<namespace key="(-?\d{1,9})"[^>]*>([^<]*)</namespace>')
_REDIRECT = re.compile(r"\s*#redirect\b", re.IGNORECASE)
_MEDIA_KEYS = (-2, 6, 14)  # media, file, category


@dataclass(frozen=True, slots=True)
class Namespaces:
    """The names of a wiki's namespaces, lower case.

    Attributes:
      other: all but the articles' own; only old exports, whose pages do not give a namespace, need them.
      media: those whose links show a picture or nothing.
    """

    other: frozenset[str]
    media: frozenset[str]


def read_wikipedia_xml(storage: Storage, source: Source) -> Iterator[Document | LeftOut | Reject]:
    """The articles of an export, as plain text under their page ids.

    Redirects, pages of other namespaces and pages whose text is empty once markup is removed are left
    out.
    """
    namespaces = _parse_namespaces(b"")
    if source.byte_range and source.byte_range[0]:
        namespaces = _parse_namespaces(_read_header(storage, source))
    is_last = source.byte_range is None or source.byte_range[1] == storage.size(source.path)
    position = source.first_record
    for chunk in _split_pages(read_blocks(storage, source), is_last):
        start = chunk.find(b"<page")
        if b"<namespaces" in chunk[:start]:
            namespaces = _parse_namespaces(chunk[:start])
        yield _read_page(chunk[start:], namespaces, source, position)
        position += 1


def _split_pages(blocks: Iterable[bytes], is_last: bool) -> Iterator[bytes]:
    """Each page with what precedes it; `is_last`: the export's end is expected after the pages."""
    buffer = bytearray()
    searched = 0
    for block in blocks:
        buffer += block
        while (end := buffer.find(_PAGE_END, searched)) >= 0:
            end += len(_PAGE_END)
            yield bytes(buffer[:end])
            del buffer[:end]
            searched = 0
        searched = max(0, len(buffer) - len(_PAGE_END) + 1)
        if len(buffer) > MAX_RECORD_BYTES:
            raise DamagedFileError(
                f"no end of a page within {MAX_RECORD_BYTES:,} bytes; is this a MediaWiki export?"
            )
    if b"<page" in buffer:
        raise DamagedFileError("ends inside a page; what came before is kept; fetch the file again")
    if is_last and b"</mediawiki>" not in buffer:
        raise DamagedFileError("ends without </mediawiki>; what came before is kept; fetch the file again")


def _read_page(
    data: bytes, namespaces: Namespaces, source: Source, position: int
) -> Document | LeftOut | Reject:
    page_id = None
    try:
        page = _parse(data)
        title, page_id = page.findtext("title", "").strip(), page.findtext("id", "").strip()
        text = page.findall("revision/text")[-1:]  # the newest, where an export holds several
        markup = (text[0].text or "") if text else ""
        if _is_of_other_namespace(page, title, namespaces):
            return LeftOut(LeaveOutReason.OTHER_NAMESPACE, position)
        if page.find("redirect") is not None or _REDIRECT.match(markup):
            return LeftOut(LeaveOutReason.REDIRECT, position)
        plain = plain_text(markup, namespaces.media)
    except BadRecord as error:
        error.record_id = page_id
        return error.to_reject(source, position, data[:EXCERPT_CHARACTERS].decode("utf-8", "replace"))
    if not plain:
        return LeftOut(LeaveOutReason.EMPTY_DOCUMENT, position)
    return Document(page_id or source.record_id(position), title, plain, position)


def _parse(data: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(decode(data))
    except ElementTree.ParseError as error:
        raise BadRecord(RejectReason.BAD_ROW, f"the page is not well-formed XML: {error}") from error


def _is_of_other_namespace(page: ElementTree.Element, title: str, namespaces: Namespaces) -> bool:
    namespace = page.findtext("ns")
    if namespace is not None:
        return namespace.strip() != "0"
    prefix, colon, _ = title.partition(":")
    return bool(colon) and prefix.strip().lower() in namespaces.other


def _read_header(storage: Storage, source: Source) -> bytes:
    """What precedes the first page of the dump that a source is a part of."""
    header = bytearray()
    for block in read_blocks(storage, replace(source, byte_range=None)):
        searched = max(0, len(header) - len(_PAGE_BEGIN))
        header += block
        if header.find(_PAGE_BEGIN, searched) >= 0 or len(header) > MAX_RECORD_BYTES:
            break
    return bytes(header.partition(_PAGE_BEGIN)[0])


def _parse_namespaces(header: bytes) -> Namespaces:
    names = [(int(key), name.lower()) for key, name in _NAMESPACE.findall(header.decode("utf-8", "replace"))]
    return Namespaces(
        other=frozenset(name for key, name in names if key != 0),
        media=MEDIA_NAMESPACES.union(name for key, name in names if key in _MEDIA_KEYS),
    )
