"""A device whose memory is full: work goes on by halves, and only a record that does not fit alone ends it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

import torch

from rag_core.errors import RagBeamError, reason_of


class Numbered(Protocol):
    """A question with its number among those that are asked."""

    @property
    def number(self) -> int: ...


Q = TypeVar("Q", bound=Numbered)
R = TypeVar("R")


class RecordTooLarge(RagBeamError, torch.OutOfMemoryError):
    """A record does not fit into the device's memory, even alone.

    Attributes:
      row: its number among those given.
      reason: what the device said.
    """

    def __init__(self, row: int, error: torch.OutOfMemoryError):
        self.row, self.reason = row, reason_of(error)
        super().__init__(f"record {row}: {self.told}")

    @property
    def told(self) -> str:
        """What became of it, for a sentence that names it by its id."""
        return f"does not fit into the memory of the device, even alone ({self.reason})"


def decided_within_memory(
    questions: Sequence[Q],
    batch_tokens: int,
    device: torch.device,
    decide: Callable[[Sequence[Q], int], Iterable[tuple[int, R]]],
) -> dict[int, R]:
    """Results by question number; where the device has no memory left, the budget is halved.

    The smaller budget holds for the questions that have no result yet; the others are not done again.

    Args:
      questions: in the order in which `decide` takes them.
      decide: from questions and a budget, as in `DecodingSettings.batch_tokens`, to numbers with results,
        as they come.

    Raises:
      RecordTooLarge: a question alone, in passes of one token's budget, does not fit.
    """
    results: dict[int, R] = {}
    while waiting := [question for question in questions if question.number not in results]:
        # one by one at last: so it is known which of them does not fit
        together = waiting if batch_tokens > 1 else waiting[:1]
        try:
            for number, result in decide(together, batch_tokens):
                results[number] = result
            continue
        except torch.OutOfMemoryError as error:
            if batch_tokens == 1:
                raise RecordTooLarge(waiting[0].number, error) from error
        # outside the handler: the exception keeps the failed batch's tensors alive
        batch_tokens //= 2
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return results
