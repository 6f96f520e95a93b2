"""Rows of comma- and tab-separated files.

Python's `csv` reads what `csv` writes, but two things met in the wild defeat it: passages whose quotes
are doubled although no quotes enclose the field (it drops the first and keeps the others doubled), and
a quote that is opened and never closed (it swallows the rest of the file). Here a field is quoted only
where its quotes balance, and what an open quote may swallow is bounded.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator

from rag_core.corpus.files import MAX_RECORD_BYTES, DamagedFileError, decode
from rag_core.corpus.rows import BadRecord
from rag_core.records import EXCERPT_CHARACTERS, RejectReason

MAX_RECORD_LINES = 10_000  # lines that one quoted field may span

_BALANCED = r'[^"]*+(?:""[^"]*+)*+'  # possessive: a field of any length is matched without a stack
_REST_OF_OPEN_QUOTE = re.compile(_BALANCED)


class Dialect:
    """How the fields of a line are told apart.

    Attributes:
      delimiter: one character.
      undouble: read `""` as `"` in fields that no quotes enclose, too.
    """

    def __init__(self, delimiter: str, *, undouble: bool = False):
        self.delimiter = delimiter
        self.undouble = undouble
        end = rf"({delimiter}|\Z)"
        self._field = re.compile(rf'(?:"({_BALANCED})"|([^{delimiter}]*+)){end}')
        self._open_quote = re.compile(rf'"{_BALANCED}\Z')

    def split(self, line: str) -> tuple[list[str], int | None]:
        """The fields of a line, and the number of the one whose quote is still open at its end."""
        if '"' not in line:
            return line.split(self.delimiter), None
        fields: list[str] = []
        start, delimiter = 0, self.delimiter
        opened: int | None = None
        while delimiter:
            match = self._field.match(line, start)
            assert match is not None  # the second alternative matches anything
            quoted, raw, delimiter = match.groups()
            if quoted is not None:
                fields.append(quoted.replace('""', '"'))
            else:
                if opened is None and raw.startswith('"') and self._open_quote.match(line, start):
                    opened = len(fields)
                fields.append(raw.replace('""', '"') if self.undouble else raw)
            start = match.end()
        return fields, opened

    def after_quote(self, line: str) -> str | None:
        """What follows the open quote that closes in this further line, "" where it stays open.

        None where it cannot be a quoted field.
        """
        rest = _REST_OF_OPEN_QUOTE.match(line)
        assert rest is not None  # it matches the empty string
        after = line[rest.end() :]
        return after if after in ("", '"') or after.startswith(f'"{self.delimiter}') else None


def read_rows(
    lines: Iterable[bytes], dialect: Dialect, columns: int | None = None
) -> Iterator[list[str] | BadRecord | None]:
    """The fields of each record, None for an empty line, a `BadRecord` for a record that does not fit.

    A quote that does not close within `MAX_RECORD_LINES` lines, or whose record then has another number
    of columns, is taken as a character of its field, and reading goes on with the next line.

    Args:
      lines: with their line ends.
      dialect: how fields are told apart.
      columns: how many fields a record has; None takes it from the first record.
    """
    ahead = _Lookahead(lines)
    while (line := ahead.pop()) is not None:
        if not line.strip(b" \r\n"):
            yield None
            continue
        try:
            text = decode(line).removesuffix("\n").removesuffix("\r")
        except BadRecord as error:
            yield error
            continue
        fields, opened = dialect.split(text)
        if (
            opened is not None
            and (spanning := _close_quote(line, opened, ahead, dialect, columns)) is not None
        ):
            fields = spanning
        columns = columns or len(fields)
        if len(fields) == columns:
            yield fields
            continue
        hint = "" if opened is None else "; a quote that opens a field is not closed"
        message = f"expected {columns} columns, got {len(fields)}{hint}"
        yield BadRecord(RejectReason.BAD_ROW, message, excerpt=text[:EXCERPT_CHARACTERS])


class _Lookahead:
    """Lines that may be looked at before they are taken; damage shows only when its line is taken."""

    def __init__(self, lines: Iterable[bytes]):
        self._lines = iter(lines)
        self._held: deque[bytes] = deque()
        self._damage: DamagedFileError | None = None

    def pop(self) -> bytes | None:
        """Takes the next line; None at the end."""
        if self.peek(0) is None:
            if self._damage:
                raise self._damage
            return None
        return self._held.popleft()

    def peek(self, index: int) -> bytes | None:
        """The line `index` lines ahead; None beyond the end or the damage."""
        while len(self._held) <= index and self._damage is None:
            try:
                line = next(self._lines, None)
            except DamagedFileError as error:
                self._damage = error
                break
            if line is None:
                break
            self._held.append(line)
        return self._held[index] if index < len(self._held) else None


def _close_quote(
    line: bytes, opened: int, ahead: _Lookahead, dialect: Dialect, columns: int | None
) -> list[str] | None:
    """The fields of the record that `line` begins; takes the lines it spans. None: there is none such.

    `opened` is the number of the field whose quote is open. Each further line is looked at once: one that
    closes a quote and opens the next would else make the record be split as often as it has lines.
    """
    parts, held_bytes = [decode(line)], len(line)
    while len(parts) < MAX_RECORD_LINES and held_bytes < MAX_RECORD_BYTES:
        if columns is not None and opened >= columns:
            return None
        further = ahead.peek(len(parts) - 1)
        if further is None:
            return None
        try:
            parts.append(decode(further))
        except BadRecord:
            return None
        held_bytes += len(further)
        after = dialect.after_quote(parts[-1].removesuffix("\n").removesuffix("\r"))
        if after is None:
            return None
        if not after:
            continue
        following, opened_next = dialect.split(after[2:]) if after != '"' else ([], None)
        if opened_next is not None:  # closed one field and opened another
            opened += 1 + opened_next
            continue
        if columns not in (None, opened + 1 + len(following)):
            return None
        for _ in parts[1:]:
            ahead.pop()
        return dialect.split("".join(parts).removesuffix("\n").removesuffix("\r"))[0]
    return None
