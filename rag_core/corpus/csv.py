"""Comma- and tab-separated tables: `title,text` with a header, or `title<TAB>text` without one.

A table is tab-separated where its first line holds a tab. Its first line is a header where one of its
fields is a name that the reader needs (`text`); otherwise a table of two columns is `title`, `text`, the
layout of the Hugging Face RAG example. Other columns are ignored, ids and `passage_id` apart.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence

from rag_core.corpus.delimited import Dialect, read_rows
from rag_core.corpus.files import read_blocks, read_lines
from rag_core.corpus.rows import BadRecord, Row, convert_rows, to_document
from rag_core.corpus.source import Source
from rag_core.records import Document, LeftOut, Passage, Reject, RejectReason
from rag_core.storage import Storage

NAMES_WITHOUT_HEADER = ("title", "text")


def read_csv(storage: Storage, source: Source) -> Iterator[Document | Passage | LeftOut | Reject]:
    """The documents of a table, or its passages where it has a `passage_id`."""
    rows = read_table(read_lines(read_blocks(storage, source)), ["text"], NAMES_WITHOUT_HEADER)
    return convert_rows(source, rows, to_document)


def read_table(
    lines: Iterable[bytes], wanted: Sequence[str], names_without_header: Sequence[str] = ()
) -> Iterator[Row | BadRecord | None]:
    """The rows of a table, by column name.

    Args:
      lines: with their line ends.
      wanted: the first line is a header where it holds one of these names.
      names_without_header: the columns of a table without header, if it has that many.
    """
    lines = iter(lines)
    first_line = next(lines, b"")
    dialect = Dialect("\t" if b"\t" in first_line else ",")
    rows = read_rows(itertools.chain([first_line], lines), dialect)
    names: list[str] | None = None
    for row in rows:
        if row is None or isinstance(row, BadRecord):
            yield row
            continue
        if names is None:
            names, is_header = column_names(row, wanted, names_without_header)
            if is_header:
                continue
        if len(row) == len(names):
            yield dict(zip(names, row, strict=True))
        else:
            yield BadRecord(
                RejectReason.BAD_ROW,
                f"expected a header with {' or '.join(wanted)}, or {len(names)} columns without one, "
                f"got {len(row)} columns",
            )


def column_names(
    first_row: Sequence[str], wanted: Sequence[str], names_without_header: Sequence[str]
) -> tuple[list[str], bool]:
    """The names of a table's columns, and whether its first row is the header that gave them."""
    names = [name.strip() for name in first_row]
    if any(name in names for name in wanted):
        return names, True
    return list(names_without_header), False
