"""Multistream dumps: a `.bz2` of many streams, of which an index tells where each begins.

Every stream holds some 100 pages and can be read on its own, so a dump becomes several sources. The
index, `*-multistream-index.txt[.bz2]` beside `*-multistream.xml.bz2`, has a line `offset:page id:title`
for each page.
"""

from collections.abc import Iterator

from rag_core import storage as paths
from rag_core.corpus.files import DamagedFileError, read_blocks, read_lines
from rag_core.corpus.source import Source
from rag_core.errors import UsageError
from rag_core.storage import Storage

STREAMS_PER_SOURCE = 50

_STREAM_START = b"BZh"


def index_path(storage: Storage, path: str) -> str | None:
    """The index file beside a multistream dump, where there is one."""
    name = paths.file_name(path)
    if "-multistream" not in name or not name.endswith(".bz2") or ".xml" not in name:
        return None
    index_name = name.replace("-multistream", "-multistream-index", 1).replace(".xml", ".txt", 1)
    folder = path[: len(path) - len(name)]
    candidates = [folder + index_name, folder + index_name.removesuffix(".bz2")]
    return next((candidate for candidate in candidates if storage.exists(candidate)), None)


def split_dump(storage: Storage, path: str, index: str) -> list[Source]:
    """The dump at `path` as sources of `STREAMS_PER_SOURCE` streams each, together the whole file.

    Raises:
      UsageError: the index cannot be read, or is of another dump.
    """
    size = storage.size(path)
    starts: list[tuple[int, int]] = [(0, 0)]  # of each source: its first byte, the pages before it
    for stream, (offset, pages_before) in enumerate(_read_index(storage, index)):
        if offset >= size:
            break  # a dump cut short: its last source will say where it ends
        if stream and stream % STREAMS_PER_SOURCE == 0:
            starts.append((offset, pages_before))
    with storage.open(path) as file:
        for begin, _ in starts:
            file.seek(begin)
            if file.read(len(_STREAM_START)) != _STREAM_START:
                raise UsageError(
                    f"{index}: is not the index of {path}, where no bz2 stream begins at byte {begin:,}; "
                    "fetch the index of the same date, or move it away to read the dump as one piece"
                )
    ends = [begin for begin, _ in starts[1:]] + [size]
    return [
        Source(path, "wikipedia_xml", byte_range=(begin, end), first_record=pages_before)
        for (begin, pages_before), end in zip(starts, ends, strict=True)
    ]


def _read_index(storage: Storage, index: str) -> Iterator[tuple[int, int]]:
    """For each stream of the dump: its first byte and the number of pages before it."""
    last_offset = -1
    try:
        for number, line in enumerate(read_lines(read_blocks(storage, Source(index, "text")))):
            offset = int(line.partition(b":")[0])
            if offset > last_offset:
                yield offset, number
                last_offset = offset
            elif offset < last_offset:
                raise ValueError(f"offset {offset} after {last_offset}")
    except (ValueError, DamagedFileError) as error:
        raise UsageError(
            f"{index}: expected lines 'offset:page id:title', by offset ({error}); fetch it again"
        ) from error
