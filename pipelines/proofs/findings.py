"""What came of each check: ok, FAILED or not checked, with a sentence for each failure."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

import pyarrow as pa

from rag_core.errors import RagBeamError

_SENTENCES = 5  # of a check, in full


class Outcome(StrEnum):
    """How a check ended, as it is printed."""

    OK = "ok"
    FAILED = "FAILED"
    NOT_CHECKED = "not checked"


@dataclass
class Check:
    """One thing to prove of one folder.

    Attributes:
      name: what is proved, in a word or two.
      note: what was found in order, for people.
    """

    name: str
    note: str = ""
    _failures: list[str] = field(default_factory=list)
    _failed: int = 0
    _skipped: list[str] = field(default_factory=list)
    _skips: int = 0

    def fail(self, sentence: str) -> None:
        """Enters a failure: where, expected, got, what to do."""
        self._failed += 1
        if len(self._failures) < _SENTENCES:
            self._failures.append(sentence)

    def skip(self, sentence: str) -> None:
        """Enters what could not be checked, and why."""
        self._skips += 1
        if len(self._skipped) < _SENTENCES:
            self._skipped.append(sentence)

    def enter(self, outcome: Outcome, sentence: str) -> None:
        """Enters what came of a piece of the check; a sentence is told of what is not ok."""
        if outcome == Outcome.FAILED:
            self.fail(sentence)
        elif outcome == Outcome.NOT_CHECKED:
            self.skip(sentence)

    @contextlib.contextmanager
    def guard(self, where: str) -> Iterator[None]:
        """Takes what reading raises for a failure: a damaged or hostile file may raise almost anything."""
        try:
            yield
        except RagBeamError as error:
            self.fail(str(error))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, pa.ArrowException) as error:
            self.fail(f"{where}: cannot be read ({type(error).__name__}: {error}); make it again")

    @property
    def outcome(self) -> Outcome:
        """FAILED where anything failed, not checked where a part of it could not be."""
        if self._failed:
            return Outcome.FAILED
        return Outcome.NOT_CHECKED if self._skips else Outcome.OK

    def lines(self) -> Iterator[str]:
        """The line of the check, and a sentence for each failure and each thing that was not checked."""
        told = f"{self._failed:,} found" if self._failed else self.note
        yield f"  {self.outcome:<12} {self.name:<12} {told}".rstrip()
        for sentences, count in ((self._failures, self._failed), (self._skipped, self._skips)):
            yield from (f"      {sentence}" for sentence in sentences)
            if count > len(sentences):
                yield f"      and {count - len(sentences):,} more"


class Report:
    """Collects checks in order and tells each when it ends."""

    def __init__(self, tell: Callable[[str], None]):
        """`tell` is given each line."""
        self._tell = tell
        self._outcomes: list[Outcome] = []

    def begin_folder(self, line: str) -> None:
        """Names the folder that the checks which follow are of."""
        self._tell(line)

    def end(self, *checks: Check) -> None:
        """Tells what came of checks."""
        for check in checks:
            self._outcomes.append(check.outcome)
            for line in check.lines():
                self._tell(line)

    @contextlib.contextmanager
    def check(self, name: str, where: str) -> Iterator[Check]:
        """A check that ends with the block; what reading raises in there is a failure."""
        check = Check(name)
        with check.guard(where):
            yield check
        self.end(check)

    def count(self, outcome: Outcome) -> int:
        """How many checks ended so."""
        return self._outcomes.count(outcome)
