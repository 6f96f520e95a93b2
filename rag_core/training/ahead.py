"""The batch of the next step is made ready while this one is computed."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class Ahead(Generic[Batch]):
    """What a function gives for each step, mostly ready when it is asked for.

    Tokenising a batch takes about as long as a device needs for a small model's step; in a thread of its own
    it costs nothing, and changes no value.
    """

    def __init__(self, prepare: Callable[[int], Batch], steps: int):
        """Starts nothing yet.

        Args:
          prepare: the batch of a step (0, 1, …); depends on nothing but the step.
          steps: how many there are.
        """
        self._prepare, self._steps = prepare, steps
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._next: tuple[int, Future[Batch]] | None = None

    def take(self, step: int) -> Batch:
        """The batch of a step; that of the step after it is begun.

        Raises:
          Exception: what `prepare` raised for this step.
        """
        if self._next is None or self._next[0] != step:
            self._begin(step)
        assert self._next is not None
        batch = self._next[1].result()
        if step + 1 < self._steps:
            self._begin(step + 1)
        return batch

    def _begin(self, step: int) -> None:
        self._next = (step, self._pool.submit(self._prepare, step))
