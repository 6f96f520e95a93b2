"""Plain exports: an uncompressed MediaWiki export, which can be read from any page on.

One file may be the dump of a whole wiki, hours of parsing. Cut between pages it becomes many sources:
all workers take part, and a run that is killed loses little.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from rag_core.corpus.files import is_compressed, read_blocks
from rag_core.corpus.source import Source
from rag_core.storage import Storage

BYTES_PER_SOURCE = 32 << 20

_PAGE_END = re.compile(rb"</page>")
_TAIL_BYTES = len(b"</page>") - 1  # what may be the start of an end that the next block completes


def split_export(storage: Storage, source: Source) -> list[Source]:
    """The export as sources of some `BYTES_PER_SOURCE` each, together the whole file.

    A compressed or small one stays as it is.
    """
    size = storage.size(source.path)
    if source.member is not None or size <= BYTES_PER_SOURCE or is_compressed(storage, source.path):
        return [source]
    starts = [(0, 0)]  # of each source: its first byte, the pages before it
    for pages, end in enumerate(_page_ends(read_blocks(storage, source)), 1):
        if end - starts[-1][0] >= BYTES_PER_SOURCE:
            starts.append((end, pages))
    ends = [begin for begin, _ in starts[1:]] + [size]
    return [
        replace(source, byte_range=(begin, end), first_record=pages_before)
        for (begin, pages_before), end in zip(starts, ends, strict=True)
    ]


def _page_ends(blocks: Iterable[bytes]) -> Iterator[int]:
    """The byte after each page."""
    held, held_from = b"", 0
    for block in blocks:
        held += block
        for match in _PAGE_END.finditer(held):
            yield held_from + match.end()
        held_from += max(0, len(held) - _TAIL_BYTES)
        held = held[-_TAIL_BYTES:]
