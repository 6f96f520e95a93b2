"""First pass of exact search: the best rows of each question by float32 product, block after block.

What a product's float32 arithmetic rounds off, `exact` bounds and puts right; so the two ways to
multiply here, the processor's and a GPU's, lead to the same search result.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from rag_core.mips.scores import exact_scores

# A product is looked through in segments of a row: the largest of each is compared first.
_SEGMENT = 64
# The largest tile of products: BLAS is quickest on rows this long, and more questions gain nothing.
TILE_QUESTIONS, TILE_ROWS = 4096, 16_384
# Bytes for each product of a tile, its segments' largest and their comparison included.
PRODUCT_BYTES = 5
# Where a question has more new candidates than this many times those held, or where more products than
# that many times must be looked through, the best are selected from the whole tile.
_LISTED, _LOOKED_THROUGH = 2, 16
# Bytes for each candidate held of a tile's questions, while the tile's best are taken.
TAKEN_BYTES = 192


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions as the first pass takes them.

    Attributes:
      vectors: float32 [B, D].
      factors: float32 [B, D], what is multiplied: the vectors, or zeros where products would overflow.
      width: rows to hold for each question.
    """

    vectors: np.ndarray
    factors: np.ndarray
    width: int


class Products(Protocol):
    """The best rows up to now, for each of B questions.

    A row's exact score is computed when the row enters, from the block that is in memory: read again
    at the end, candidates would be as many random places of the disk.
    """

    def add(self, first_row: int, stored: np.ndarray | torch.Tensor, gone: np.ndarray) -> None:
        """Takes a block of vectors into account.

        Args:
          first_row: row of the index where the block begins.
          stored: float16 or float32 [n, D], as it lies on disk; on the device it may be already.
          gone: int64, positions in the block that are not to be found.
        """
        ...

    def best(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The best rows, in no order: products float32, exact scores float32, rows int64; each [B, width].

        A place that no row has taken has −inf, −inf and the row −1.
        """
        ...


class HostProducts:
    """Products by the processor's BLAS, in tiles that are looked through while they are in its caches.

    After the first blocks hardly any product reaches a question's best, so a tile costs little more
    than multiplying it: only segments whose largest product exceeds the least one held are opened.
    """

    def __init__(self, asked: Asked, tile_questions: int, rows: int, pairs: int) -> None:
        """Allocates for blocks of at most `rows` rows.

        Args:
          asked: the questions.
          tile_questions: questions that are multiplied at a time.
          rows: the most rows that `add` is given at a time.
          pairs: pairs of question and row that are scored exactly at a time.
        """
        count, dimension = asked.vectors.shape
        self._asked = asked
        self._tile_questions = min(tile_questions, max(1, count))
        self._pairs = pairs
        self._products = np.full((count, asked.width), -np.inf, dtype=np.float32)
        self._held = _Held(count, asked.width)
        self._least = np.full(count, -np.inf, dtype=np.float32)
        self._converted = np.empty((rows, dimension), dtype=np.float32)
        self._tile = np.empty(self._tile_questions * rows, dtype=np.float32)

    def add(self, first_row: int, stored: np.ndarray | torch.Tensor, gone: np.ndarray) -> None:
        block = _Block(first_row, np.asarray(stored))
        multiplied = as_float32(block.stored, self._converted)
        for start in range(0, len(self._products), self._tile_questions):
            factors = self._asked.factors[start : start + self._tile_questions]
            tile = self._tile[: len(factors) * len(multiplied)].reshape(len(factors), len(multiplied))
            np.matmul(factors, multiplied.T, out=tile)
            tile[:, gone] = -np.inf
            self._take(start, tile, block)

    def best(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._products, self._held.scores, self._held.rows

    def _take(self, start: int, tile: np.ndarray, block: "_Block") -> None:
        """Merges a tile of products of the questions from `start` on."""
        least = torch.from_numpy(self._least[start : start + len(tile)])
        whole = tile.shape[1] - tile.shape[1] % _SEGMENT
        segments = torch.from_numpy(tile)[:, :whole].unflatten(1, (-1, _SEGMENT))
        held = tile.shape[0] * self._asked.width
        # what is left over of the last segment
        question, position = np.nonzero(tile[:, whole:] > self._least[start : start + len(tile), None])
        position += whole
        if whole:
            opened, segment = torch.nonzero(segments.amax(2) > least[:, None], as_tuple=True)
            if len(opened) * _SEGMENT > _LOOKED_THROUGH * held:
                return self._select(start, tile, block)
            passed, place = torch.nonzero(segments[opened, segment] > least[opened, None], as_tuple=True)
            question = np.concatenate([question, opened[passed].numpy()])
            position = np.concatenate([position, (segment[passed] * _SEGMENT + place).numpy()])
        if not len(question):
            return None
        if np.bincount(question).max() > _LISTED * self._asked.width:
            return self._select(start, tile, block)
        return self._list(start, tile, question, position, block)

    def _select(self, start: int, tile: np.ndarray, block: "_Block") -> None:
        """Merges the best of each question where many products exceed what is held."""
        found = torch.topk(torch.from_numpy(tile), min(self._asked.width, tile.shape[1]), dim=1, sorted=False)
        where = np.arange(start, start + len(tile))
        self._merge(where, found.values.numpy(), found.indices.numpy(), block)

    def _list(
        self, start: int, tile: np.ndarray, question: np.ndarray, position: np.ndarray, block: "_Block"
    ) -> None:
        """Merges single products, named by question of the tile and position in it (int64 [n] each)."""
        order = np.argsort(question, kind="stable")
        question, position = question[order], position[order]
        where, first, counts = np.unique(question, return_index=True, return_counts=True)
        line = np.repeat(np.arange(len(where)), counts)
        place = np.arange(len(question)) - np.repeat(first, counts)
        products = np.full((len(where), counts.max()), -np.inf, dtype=np.float32)
        positions = np.zeros(products.shape, dtype=np.int64)
        products[line, place] = tile[question, position]
        positions[line, place] = position
        self._merge(where + start, products, positions, block)

    def _merge(self, where: np.ndarray, products: np.ndarray, positions: np.ndarray, block: "_Block") -> None:
        """The best of what the questions `where` hold and of `products` (float32 [n, C]) of the block."""
        width = self._asked.width
        products = np.concatenate([self._products[where], products], axis=1)
        kept = np.argpartition(products, -width, axis=1)[:, -width:]
        products = np.take_along_axis(products, kept, axis=1)
        # of what is new, its place among the block's; what no product was given for is none
        new = (kept >= width) & (products > -np.inf)
        line, place = np.nonzero(new)
        position = positions[line, kept[line, place] - width]
        scores = block.scores(self._asked.vectors, where[line], position, self._pairs)
        self._held.replace(where, kept, new, position + block.first_row, scores)
        self._products[where] = products
        self._least[where] = products.min(axis=1)


class DeviceProducts:
    """Products on a torch device: blocks are copied there as they are stored, or stay from before."""

    def __init__(self, asked: Asked, tile_questions: int, device: torch.device, pairs: int) -> None:
        """Moves the questions to the device; see `HostProducts` for the arguments."""
        self._asked = asked
        self._factors = torch.from_numpy(asked.factors).to(device)
        self._tile_questions = tile_questions
        self._pairs = pairs
        self._products = torch.full((len(asked.factors), asked.width), -torch.inf, device=device)
        self._held = _Held(len(asked.factors), asked.width)

    def add(self, first_row: int, stored: np.ndarray | torch.Tensor, gone: np.ndarray) -> None:
        device = self._factors.device
        on_device = torch.as_tensor(stored).to(device)
        multiplied = on_device.float()
        hidden = torch.from_numpy(gone).to(device)
        for start in range(0, len(self._products), self._tile_questions):
            part = slice(start, start + self._tile_questions)
            products = _full_precision_product(self._factors[part], multiplied)
            products[:, hidden] = -torch.inf
            found = torch.topk(products, min(self._asked.width, len(multiplied)), dim=1, sorted=False)
            both = torch.cat([self._products[part], found.values], dim=1)
            self._products[part], kept = torch.topk(both, self._asked.width, dim=1, sorted=False)
            new = (kept >= self._asked.width) & (self._products[part] > -torch.inf)
            positions = found.indices.gather(1, (kept - self._asked.width).clamp(min=0))
            self._replace(start, first_row, on_device, kept, new, positions)

    def best(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._products.cpu().numpy(), self._held.scores, self._held.rows

    def _replace(
        self,
        start: int,
        first_row: int,
        on_device: torch.Tensor,
        kept: torch.Tensor,
        new: torch.Tensor,
        positions: torch.Tensor,
    ) -> None:
        """Puts the rows that entered a tile's best where the ones that left were (all [tile, width])."""
        where = np.arange(start, start + len(kept))
        entered, inverse = torch.unique(positions[new], return_inverse=True)
        block = _Block(0, on_device[entered].cpu().numpy())  # only the rows that entered come back
        is_new = new.cpu().numpy()
        line, _ = np.nonzero(is_new)
        scores = block.scores(self._asked.vectors, where[line], inverse.cpu().numpy(), self._pairs)
        rows = positions[new].cpu().numpy() + first_row
        self._held.replace(where, kept.cpu().numpy(), is_new, rows, scores)


class _Held:
    """The best rows of B questions and their exact scores, [B, width] in no order; −1 and −inf where none is."""

    def __init__(self, questions: int, width: int) -> None:
        self.scores = np.full((questions, width), -np.inf, dtype=np.float32)
        self.rows = np.full((questions, width), -1, dtype=np.int64)

    def replace(
        self, where: np.ndarray, kept: np.ndarray, new: np.ndarray, rows: np.ndarray, scores: np.ndarray
    ) -> None:
        """Puts what is new in the places of what leaves.

        Args:
          where: the questions, int64 [n].
          kept: what each of their places takes, [n, width]: below width one of what is held, else one of
            what was found.
          new: bool [n, width], the places that take what was found; the others of these become empty.
          rows, scores: of what is new, int64 and float32 [new], place by place.
        """
        width = self.rows.shape[1]
        stays = np.minimum(kept, width - 1)
        empty = (kept >= width) & ~new
        for held, entered, nothing in ((self.rows, rows, -1), (self.scores, scores, -np.inf)):
            values = np.take_along_axis(held[where], stays, axis=1)
            values[empty] = nothing
            values[new] = entered
            held[where] = values


@dataclass(frozen=True, slots=True)
class _Block:
    """Stored vectors [n, D], the first of which is the index's row `first_row`."""

    first_row: int
    stored: np.ndarray

    def scores(
        self, questions: np.ndarray, numbers: np.ndarray, positions: np.ndarray, at_once: int
    ) -> np.ndarray:
        """Exact scores, float32 [n], of question numbers and positions in the block (int64 [n] each)."""
        scores = np.empty(len(positions), dtype=np.float32)
        for start in range(0, len(positions), at_once):
            part = slice(start, start + at_once)
            scores[part] = exact_scores(questions[numbers[part]], self.stored[positions[part]])
        return scores


def as_float32(stored: np.ndarray, converted: np.ndarray) -> np.ndarray:
    """A block as float32 [n, D]: itself, or a copy in `converted` (float32 [≥ n, D])."""
    if stored.dtype == np.float32:
        return stored
    block = converted[: len(stored)]
    torch.from_numpy(block).copy_(torch.from_numpy(stored))  # ten times NumPy's speed
    return block


def _full_precision_product(questions: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    """The float32 product [B, n]: TF32 would round the factors to 10 bits, beyond the error bound."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        return questions @ block.T
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
