"""Scores of all items and of named parts of them, each item judged once."""

from collections.abc import Callable
from typing import Generic, Protocol, Self, TypeVar

from rag_core.metrics.scores import Score


class _Mergeable(Protocol):
    def merge(self, other: Self) -> None: ...

    def scores(self, slice_name: str | None = None, whole: Self | None = None) -> list[Score]: ...


E = TypeVar("E", bound=_Mergeable)


class SlicedEvaluation(Generic[E]):
    """An evaluation for each combination of slices that an item lies in; slices and whole are merged of them.

    Judging is what takes time (an answer's ROUGE, the texts of a hundred passages), merging is not.

    Args:
      new: makes an empty evaluation, always of the same metrics.
    """

    def __init__(self, new: Callable[[], E]):
        self._new = new
        self._cells: dict[tuple[str | None, ...], E] = {}

    def cell(self, slices: tuple[str | None, ...]) -> E:
        """The evaluation to add an item to.

        Args:
          slices: the item's slice in each way of slicing, None where it is in no slice of that way.
        """
        if slices not in self._cells:
            self._cells[slices] = self._new()
        return self._cells[slices]

    def whole(self) -> E:
        """The evaluation of all items."""
        whole = self._new()
        for cell in self._cells.values():
            whole.merge(cell)
        return whole

    def slice_scores(self, whole: E) -> list[Score]:
        """The scores of each slice: way after way, in each by the slice's name.

        Args:
          whole: the evaluation of all items, which decides what metrics there are.
        """
        parts: dict[tuple[int, str], E] = {}
        for slices, cell in self._cells.items():
            for way, name in enumerate(slices):
                if name is not None:
                    if (way, name) not in parts:
                        parts[way, name] = self._new()
                    parts[way, name].merge(cell)
        return [score for way, name in sorted(parts) for score in parts[way, name].scores(name, whole)]
