"""Which rows a step is trained on: every row once an epoch, in an order drawn from the seed and the epoch."""

import functools
from collections.abc import Hashable, Sequence

import numpy as np

from rag_core.errors import UsageError


class Groups:
    """Rows that belong together, as those with a name in common do."""

    def __init__(self, names: Sequence[Hashable], most: int):
        """Stores the names.

        Args:
          names: of each row.
          most: so many rows of a name stand together, drawn anew in each epoch; those left over are fewer.
        """
        numbers: dict[Hashable, int] = {}
        self._numbers = np.array([numbers.setdefault(name, len(numbers)) for name in names])
        self._most = most

    def order(self, draw: np.random.Generator) -> np.ndarray:
        """All rows, int64 [rows]: within a name at random, cut into runs, and these at random."""
        mixed = draw.permutation(len(self._numbers))
        by_name = mixed[np.argsort(self._numbers[mixed], kind="stable")]
        names = self._numbers[by_name]
        begins = np.searchsorted(names, names)  # where each row's name begins
        offsets = np.arange(len(names)) - begins
        runs = np.split(by_name, np.flatnonzero(offsets % self._most == 0)[1:])
        return np.concatenate([runs[number] for number in draw.permutation(len(runs))])


class EpochBatches:
    """Full batches of all epochs; the rows that are left over at an epoch's end are left out of it.

    Attributes:
      total_steps: of all epochs, or the most that were asked for.
    """

    def __init__(
        self,
        rows: int,
        batch_rows: int,
        epochs: int,
        seed: int,
        max_steps: int | None = None,
        groups: Groups | None = None,
    ):
        """Stores what the order is drawn from.

        Args:
          groups: rows that belong together, some of which stand in a row in each epoch; None: no such rows.

        Raises:
          UsageError: there are fewer rows than a batch has.
        """
        if rows < batch_rows:
            raise UsageError(
                f"{rows} training questions for batches of {batch_rows}; give more, or a smaller --batch_questions"
            )
        self._rows, self._batch_rows, self._seed, self._groups = rows, batch_rows, seed, groups
        self._steps_an_epoch = rows // batch_rows
        steps = self._steps_an_epoch * epochs
        self.total_steps = steps if max_steps is None else min(steps, max_steps)

    def rows(self, step: int) -> np.ndarray:
        """The rows of a step, int64 [batch_rows]."""
        epoch, number = self.place(step)
        order = _epoch_order(self._seed, epoch, self._rows, self._groups)
        return order[number * self._batch_rows : (number + 1) * self._batch_rows]

    def place(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and its number in the epoch."""
        return divmod(step, self._steps_an_epoch)


@functools.lru_cache(maxsize=1)
def _epoch_order(seed: int, epoch: int, rows: int, groups: Groups | None) -> np.ndarray:
    """The order of an epoch's rows; drawn once an epoch, not at each step."""
    draw = np.random.default_rng([seed, epoch])
    return draw.permutation(rows) if groups is None else groups.order(draw)
