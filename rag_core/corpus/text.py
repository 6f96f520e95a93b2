"""Plain text: one document a file, with the file's stem as its title."""

from collections.abc import Iterator

from rag_core import storage as paths
from rag_core.corpus.files import MAX_RECORD_BYTES, DamagedFileError, decode, read_blocks
from rag_core.corpus.rows import BadRecord, Row, convert_rows, to_document
from rag_core.corpus.source import Source
from rag_core.records import Document, LeftOut, Passage, Reject
from rag_core.storage import Storage


def read_text(storage: Storage, source: Source) -> Iterator[Document | Passage | LeftOut | Reject]:
    """The document that a file of plain text is."""
    return convert_rows(source, _read_row(storage, source), to_document)


def _read_row(storage: Storage, source: Source) -> Iterator[Row | BadRecord]:
    content = bytearray()
    damage = None
    try:
        for block in read_blocks(storage, source):
            content += block
            if len(content) > MAX_RECORD_BYTES:
                raise DamagedFileError(
                    f"more than {MAX_RECORD_BYTES:,} bytes in one document; is this a text file?"
                )
    except DamagedFileError as error:
        damage = error
    try:
        text = decode(bytes(content.removeprefix(b"\xef\xbb\xbf")))
        yield {"title": paths.file_stem(source.member or source.path), "text": text}
    except BadRecord as error:
        yield error
    if damage:
        raise damage
