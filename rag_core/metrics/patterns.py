"""Gold answers that are regular expressions (CuratedTREC), matched safely.

The patterns come with a data set: they may be invalid, and they may backtrack without end. Neither
stops an evaluation; both are counted.
"""

import functools
import unicodedata
from typing import Literal

import regex

DEFAULT_TIMEOUT_S = 1.0


class AnswerPatterns:
    """Matches gold patterns, case-insensitive, in Unicode and multi-line mode.

    A pattern that once exceeds its time is set aside and matches nothing from then on: otherwise one
    of them would cost `timeout_s` for every passage.

    Attributes:
      timeout_s: seconds of processor time that one match may take.
      invalid: patterns that do not compile, in the form they were tried in.
      timed_out: patterns set aside, likewise.
    """

    def __init__(self, timeout_s: float = DEFAULT_TIMEOUT_S):
        self.timeout_s = timeout_s
        self.invalid: set[str] = set()
        self.timed_out: set[str] = set()

    def match(self, pattern: str, prediction: str) -> bool:
        """Whether a predicted answer begins with a match: how exact match is taken on CuratedTREC."""
        return self._try(pattern, "match", prediction.strip())

    def search(self, pattern: str, text: str) -> bool:
        """Whether a match lies anywhere in a passage: DPR's rule for retrieval recall.

        As in DPR, pattern and text are NFD-normalised first, so an accented letter is two characters:
        `cafe` is found in `café`, `caf[eé]s` is not found in `cafés`, and an escaped `\\é` is invalid
        (three patterns of CuratedTREC's test set).
        """
        return self._try(unicodedata.normalize("NFD", pattern), "search", unicodedata.normalize("NFD", text))

    def merge(self, other: "AnswerPatterns") -> None:
        """Takes over what another instance found out."""
        self.invalid |= other.invalid
        self.timed_out |= other.timed_out

    def _try(self, pattern: str, method: Literal["match", "search"], text: str) -> bool:
        if pattern in self.timed_out or pattern in self.invalid:
            return False
        compiled = _compile(pattern)
        if compiled is None:
            self.invalid.add(pattern)
            return False
        try:
            return getattr(compiled, method)(text, timeout=self.timeout_s) is not None
        except TimeoutError:
            self.timed_out.add(pattern)
            return False


@functools.lru_cache(maxsize=4096)
def _compile(pattern: str) -> "regex.Pattern[str] | None":
    try:
        return regex.compile(pattern, regex.IGNORECASE | regex.UNICODE | regex.MULTILINE)
    except (regex.error, RecursionError, OverflowError, ValueError):  # nesting and counts without bounds
        return None
