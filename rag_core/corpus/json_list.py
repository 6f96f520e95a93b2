"""A long JSON list, its elements parsed one after the other: memory is bounded by the largest of them."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator

from rag_core.corpus.files import MAX_RECORD_BYTES, DamagedFileError
from rag_core.corpus.json_lines import MAX_JSON_MARKS, check_escapes, count_marks
from rag_core.corpus.rows import BadRecord

_SEPARATOR = re.compile(r"[\s,]*")


def read_elements(blocks: Iterable[bytes], opening: re.Pattern[str], what: str) -> Iterator[object]:
    """The elements of the list that begins where `opening` ends, each parsed as soon as it is whole.

    An element that no UTF-8 can hold is given as a `BadRecord`.

    Args:
      blocks: the bytes of a file.
      opening: matches the list's bracket and what tells it from others.
      what: the list as a message names it.

    Raises:
      DamagedFileError: the JSON ends early or goes wrong; what came before was given out.
    """
    parse = json.JSONDecoder().raw_decode
    text = _Text(blocks)
    while (match := opening.search(text.held)) is None:
        if not text.read():
            raise DamagedFileError(f"ends without {what}")
    text.start = match.end()
    while True:
        text.start = _separator_end(text.held, text.start)
        if text.held.startswith("]", text.start):
            return
        try:
            element, end = parse(text.held, text.start)
        except (ValueError, RecursionError) as error:
            if not text.read():
                raise DamagedFileError(
                    f"ends before its JSON does ({error}); what came before is kept"
                ) from error
        else:
            yield _checked(element, text.held[text.start : end])
            text.start = end


def _checked(element: object, text: str) -> object:
    try:
        check_escapes(element, text)
    except BadRecord as error:
        return error
    return element


def _separator_end(text: str, start: int) -> int:
    match = _SEPARATOR.match(text, start)
    return match.end() if match else start


class _Text:
    """The text read and not yet parsed: what is held, from `start` on.

    What was parsed is dropped only when more is read: many small elements may follow a large one.
    """

    def __init__(self, blocks: Iterable[bytes]):
        self._blocks = iter(blocks)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.held = ""
        self.start = 0

    def read(self) -> bool:
        """Adds as much as is held, so that re-parsing costs no more than reading; False at the end."""
        parts = [self.held[self.start :]]
        before = len(parts[0])
        wanted = min(2 * before, MAX_RECORD_BYTES) + 1
        while before < wanted and (block := next(self._blocks, None)) is not None:
            try:
                parts.append(self._decoder.decode(block))
            except UnicodeDecodeError as error:
                raise DamagedFileError(f"not UTF-8 ({error.reason}); what came before is kept") from error
            before += len(parts[-1])
        self.held, self.start = "".join(parts), 0
        if len(self.held) > MAX_RECORD_BYTES:
            raise DamagedFileError(f"an element is longer than {MAX_RECORD_BYTES:,} characters")
        if count_marks(self.held) > MAX_JSON_MARKS:
            raise DamagedFileError(f"an element has more than {MAX_JSON_MARKS:,} commas and brackets")
        return len(parts) > 1
