"""Which rows a step is trained on: every row once an epoch, in an order drawn from the seed and the epoch."""

import functools

import numpy as np

from rag_core.errors import UsageError


class EpochBatches:
    """Full batches of all epochs; the rows that are left over at an epoch's end are left out of it.

    Attributes:
      total_steps: of all epochs, or the most that were asked for.
    """

    def __init__(self, rows: int, batch_rows: int, epochs: int, seed: int, max_steps: int | None = None):
        """Stores what the order is drawn from.

        Raises:
          UsageError: there are fewer rows than a batch has.
        """
        if rows < batch_rows:
            raise UsageError(
                f"{rows} training questions for batches of {batch_rows}; give more, or a smaller --batch_questions"
            )
        self._rows, self._batch_rows, self._seed = rows, batch_rows, seed
        self._steps_an_epoch = rows // batch_rows
        steps = self._steps_an_epoch * epochs
        self.total_steps = steps if max_steps is None else min(steps, max_steps)

    def rows(self, step: int) -> np.ndarray:
        """The rows of a step, int64 [batch_rows]."""
        epoch, number = self.place(step)
        order = _epoch_order(self._seed, epoch, self._rows)
        return order[number * self._batch_rows : (number + 1) * self._batch_rows]

    def place(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and its number in the epoch."""
        return divmod(step, self._steps_an_epoch)


@functools.lru_cache(maxsize=1)
def _epoch_order(seed: int, epoch: int, rows: int) -> np.ndarray:
    """The order of an epoch's rows; drawn once an epoch, not at each step."""
    return np.random.default_rng([seed, epoch]).permutation(rows)
