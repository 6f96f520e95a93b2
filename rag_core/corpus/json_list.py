"""A long JSON list, its elements parsed one after the other: memory is bounded by the largest of them."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator

from rag_core.corpus.files import MAX_RECORD_BYTES, DamagedFileError

_SEPARATOR = re.compile(r"[\s,]*")


def read_elements(blocks: Iterable[bytes], opening: re.Pattern[str], what: str) -> Iterator[object]:
    """The elements of the list that begins where `opening` ends, each parsed as soon as it is whole.

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
    text.drop(match.end())
    while True:
        text.drop(_separator_end(text.held))
        if text.held.startswith("]"):
            return
        try:
            element, end = parse(text.held)
        except (ValueError, RecursionError) as error:
            if not text.read():
                raise DamagedFileError(
                    f"ends before its JSON does ({error}); what came before is kept"
                ) from error
        else:
            yield element
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
            raise DamagedFileError(f"an element is longer than {MAX_RECORD_BYTES:,} characters")
        return len(parts) > 1
