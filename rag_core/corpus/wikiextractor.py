"""WikiExtractor's output: `<doc id= url= title=>` blocks, or one JSON object a line (`--json`).

Newer versions escape `<`, `>` and `&` in the text; these five escapes are undone. The first line of a
block repeats the title and is dropped, since the title is carried beside the text.
"""

import re
from collections.abc import Iterable, Iterator

from rag_core.corpus.files import DamagedFileError, decode, read_blocks, read_lines
from rag_core.corpus.json_lines import parse_json_row
from rag_core.corpus.rows import BadRecord, Row, convert_rows, string_field, to_document
from rag_core.corpus.source import Source
from rag_core.records import Document, LeftOut, Passage, Reject, RejectReason
from rag_core.storage import Storage

_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_ESCAPE = re.compile(r"&(amp|lt|gt|quot|apos|#39|#x27);")
_ESCAPED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'", "#39": "'", "#x27": "'"}


def read_wikiextractor(storage: Storage, source: Source) -> Iterator[Document | Passage | LeftOut | Reject]:
    """The articles of a WikiExtractor file of either kind, told apart line by line."""
    return convert_rows(source, _read_rows(read_lines(read_blocks(storage, source))), to_document)


def _read_rows(lines: Iterable[bytes]) -> Iterator[Row | BadRecord]:
    block: list[bytes] | None = None  # the lines of an open <doc>
    for line in lines:
        if line.startswith(b"<doc "):
            if block is not None:
                yield BadRecord(
                    RejectReason.BAD_ROW,
                    "expected </doc> before the next <doc>",
                    excerpt=block[0].decode("utf-8", "replace"),
                )
            block = [line]
        elif line.startswith(b"</doc>") and block is not None:
            yield _guarded(_block_row, b"".join(block))
            block = None
        elif block is not None:
            block.append(line)
        elif line.startswith(b"{"):
            yield _guarded(_json_row, line)
        elif line.strip():
            yield BadRecord(
                RejectReason.BAD_ROW,
                "expected <doc …> or a JSON object",
                excerpt=line[:200].decode("utf-8", "replace"),
            )
    if block is not None:
        raise DamagedFileError("ends inside a <doc>; what came before is kept")


def _guarded(parse, data: bytes) -> Row | BadRecord:
    try:
        return parse(decode(data))
    except BadRecord as error:
        return error


def _block_row(block: str) -> Row:
    opening, _, text = block.partition("\n")
    attributes = {name: unescape(value) for name, value in _ATTRIBUTE.findall(opening)}
    title = attributes.get("title", "")
    return {"id": attributes.get("id"), "title": title, "text": without_title(unescape(text), title)}


def _json_row(line: str) -> Row:
    row = parse_json_row(line)
    title = unescape(string_field(row, "title", required=False))
    text = without_title(unescape(string_field(row, "text")), title)
    return {"id": row.get("id"), "title": title, "text": text}


def unescape(text: str) -> str:
    """Undoes the escapes that WikiExtractor writes, and no other: `&notable` stays as it is."""
    return _ESCAPE.sub(lambda match: _ESCAPED[match[1]], text)


def without_title(text: str, title: str) -> str:
    """The text without a first line that only repeats the title."""
    text = text.strip()
    first, _, rest = text.partition("\n")
    return rest.strip() if title and first.strip() == title.strip() else text
