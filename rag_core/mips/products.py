"""First pass of exact search: the best rows of each question by float32 product, block after block.

What a product's float32 arithmetic rounds off, `exact` bounds and puts right; so the two ways to
multiply here, the processor's and a GPU's, lead to the same search result.
"""

from typing import Protocol

import numpy as np
import torch

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


class Products(Protocol):
    """The best rows up to now, for each of B questions."""

    def add(self, first_row: int, stored: np.ndarray | torch.Tensor, gone: np.ndarray) -> None:
        """Takes a block of vectors into account.

        Args:
          first_row: row of the index where the block begins.
          stored: float16 or float32 [n, D], as it lies on disk; on the device it may be already.
          gone: int64, positions in the block that are not to be found.
        """
        ...

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """Products float32 [B, width] and rows int64 [B, width] of the best rows, in no order.

        A place that no row has taken has the product −inf and the row −1.
        """
        ...


class HostProducts:
    """Products by the processor's BLAS, in tiles that are looked through while they are in its caches.

    After the first blocks hardly any product reaches a question's best, so a tile costs little more
    than multiplying it: only segments whose largest product exceeds the least one held are opened.
    """

    def __init__(self, questions: np.ndarray, width: int, tile_questions: int, rows: int) -> None:
        """Allocates for blocks of at most `rows` rows.

        Args:
          questions: float32 [B, D].
          width: how many rows to hold for each question.
          tile_questions: questions that are multiplied at a time.
          rows: the most rows that `add` is given at a time.
        """
        count, dimension = questions.shape
        self._questions = questions
        self._tile_questions = min(tile_questions, max(1, count))
        self._products = np.full((count, width), -np.inf, dtype=np.float32)
        self._rows = np.full((count, width), -1, dtype=np.int64)
        self._least = np.full(count, -np.inf, dtype=np.float32)
        self._converted = np.empty((rows, dimension), dtype=np.float32)
        self._tile = np.empty(self._tile_questions * rows, dtype=np.float32)

    def add(self, first_row: int, stored: np.ndarray | torch.Tensor, gone: np.ndarray) -> None:
        block = as_float32(np.asarray(stored), self._converted)
        for start in range(0, len(self._questions), self._tile_questions):
            questions = self._questions[start : start + self._tile_questions]
            tile = self._tile[: len(questions) * len(block)].reshape(len(questions), len(block))
            np.matmul(questions, block.T, out=tile)
            tile[:, gone] = -np.inf
            self._take(start, tile, first_row)

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        return self._products, self._rows

    def _take(self, start: int, tile: np.ndarray, first_row: int) -> None:
        """Merges a tile of products of the questions from `start` on."""
        least = torch.from_numpy(self._least[start : start + len(tile)])
        whole = tile.shape[1] - tile.shape[1] % _SEGMENT
        segments = torch.from_numpy(tile)[:, :whole].unflatten(1, (-1, _SEGMENT))
        held = tile.shape[0] * self._products.shape[1]
        # what is left over of the last segment
        question, position = np.nonzero(tile[:, whole:] > self._least[start : start + len(tile), None])
        position += whole
        if whole:
            opened, segment = torch.nonzero(segments.amax(2) > least[:, None], as_tuple=True)
            if len(opened) * _SEGMENT > _LOOKED_THROUGH * held:
                return self._select(start, tile, first_row)
            passed, place = torch.nonzero(segments[opened, segment] > least[opened, None], as_tuple=True)
            question = np.concatenate([question, opened[passed].numpy()])
            position = np.concatenate([position, (segment[passed] * _SEGMENT + place).numpy()])
        if not len(question):
            return None
        if np.bincount(question).max() > _LISTED * self._products.shape[1]:
            return self._select(start, tile, first_row)
        return self._list(start, tile, question, position, first_row)

    def _select(self, start: int, tile: np.ndarray, first_row: int) -> None:
        """Merges the best of each question where many products exceed what is held."""
        found = torch.topk(
            torch.from_numpy(tile), min(self._products.shape[1], tile.shape[1]), dim=1, sorted=False
        )
        where = np.arange(start, start + len(tile))
        self._merge(where, found.values.numpy(), found.indices.numpy() + first_row)

    def _list(
        self, start: int, tile: np.ndarray, question: np.ndarray, position: np.ndarray, first_row: int
    ) -> None:
        """Merges single products, named by question of the tile and position in it (int64 [n] each)."""
        order = np.argsort(question, kind="stable")
        question, position = question[order], position[order]
        where, first, counts = np.unique(question, return_index=True, return_counts=True)
        line = np.repeat(np.arange(len(where)), counts)
        place = np.arange(len(question)) - np.repeat(first, counts)
        products = np.full((len(where), counts.max()), -np.inf, dtype=np.float32)
        rows = np.full(products.shape, -1, dtype=np.int64)
        products[line, place] = tile[question, position]
        rows[line, place] = position + first_row
        self._merge(where + start, products, rows)

    def _merge(self, where: np.ndarray, products: np.ndarray, rows: np.ndarray) -> None:
        """The best of what the questions `where` hold and of `products` (float32 [n, C]) of `rows`."""
        width = self._products.shape[1]
        products = np.concatenate([self._products[where], products], axis=1)
        rows = np.concatenate([self._rows[where], rows], axis=1)
        kept = np.argpartition(products, -width, axis=1)[:, -width:]
        self._products[where] = products = np.take_along_axis(products, kept, axis=1)
        self._rows[where] = np.take_along_axis(rows, kept, axis=1)
        self._least[where] = products.min(axis=1)


class DeviceProducts:
    """Products on a torch device: blocks are copied there as they are stored, or stay from before."""

    def __init__(self, questions: np.ndarray, width: int, tile_questions: int, device: torch.device) -> None:
        """Moves the questions (float32 [B, D]) to the device; see `HostProducts` for the arguments."""
        self._questions = torch.from_numpy(questions).to(device)
        self._tile_questions = tile_questions
        self._width = width
        shape = (len(questions), width)
        self._products = torch.full(shape, -torch.inf, device=device)
        self._rows = torch.full(shape, -1, dtype=torch.int64, device=device)

    def add(self, first_row: int, stored: np.ndarray | torch.Tensor, gone: np.ndarray) -> None:
        device = self._questions.device
        block = torch.as_tensor(stored).to(device).float()
        hidden = torch.from_numpy(gone).to(device)
        for start in range(0, len(self._questions), self._tile_questions):
            part = slice(start, start + self._tile_questions)
            products = _full_precision_product(self._questions[part], block)
            products[:, hidden] = -torch.inf
            found = torch.topk(products, min(self._width, len(block)), dim=1, sorted=False)
            both = torch.cat([self._products[part], found.values], dim=1)
            rows = torch.cat([self._rows[part], found.indices + first_row], dim=1)
            self._products[part], kept = torch.topk(both, self._width, dim=1, sorted=False)
            self._rows[part] = rows.gather(1, kept)

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        return self._products.cpu().numpy(), self._rows.cpu().numpy()


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
