"""What beam searches saw and found, step by step, and the hypotheses read back from it.

Legend: A searches, R their documents, B beams, S steps at most, C = 2B continuations of a step, best first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rag_core.bounds import SearchTrace

# the place of a search's question among the caller's, and of its first document in the question
SearchName = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a search found.

    Attributes:
      tokens: without the decoder's prompt and the end token.
      cut: the length limit cut it; its end token is scored all the same.
      score: what the search maximised: the sum over the tokens (the end token too, unless cut), over
        length^length_penalty.
      log_probs: log p(y_t|x,z,y_<t) for each document of the group and each token, the end token last;
        float64 [K, len(tokens) + 1].
    """

    tokens: tuple[int, ...]
    cut: bool
    score: float
    log_probs: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What one search found.

    Attributes:
      hypotheses: best first; fewer than B where fewer were allowed.
      finite: False where the model gave NaN or infinity.
      trace: what the search saw on its way.
    """

    hypotheses: list[Hypothesis]
    finite: bool
    trace: SearchTrace


@dataclass(slots=True)
class Columns:
    """Tensors with the same first dimension."""

    def select(self, rows: Tensor) -> Self:
        """These rows (int64 indices) of every tensor."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    def join(self, other: Self) -> Self:
        """These rows, then the other's."""
        return type(self)(
            *(torch.cat([getattr(self, field.name), getattr(other, field.name)]) for field in fields(self))
        )

    def to_numpy(self) -> dict[str, NDArray]:
        """Each tensor by its name."""
        return {field.name: getattr(self, field.name).cpu().numpy() for field in fields(self)}


@dataclass(slots=True)
class SearchColumns(Columns):
    """Of each search. Column S of a step's dimension is scratch, written by searches that are closed.

    Attributes:
      tokens, parents, sums: of each step's continuations [A, S + 1, C]; a parent is a running beam; sums are
        −inf where there is none, and in steps not taken.
      running: which continuation each running beam is, at each step, [A, S + 1, B].
      finished_scores: of the best B finished hypotheses, −inf where there are fewer, [A, B].
      finished_steps, finished_ranks: the step that finished them, and the continuation that they are.
      finished_cut: the length limit finished them.
    """

    tokens: Tensor
    parents: Tensor
    sums: Tensor
    running: Tensor
    finished_scores: Tensor
    finished_steps: Tensor
    finished_ranks: Tensor
    finished_cut: Tensor


@dataclass(slots=True)
class DocumentColumns(Columns):
    """Of each document.

    Attributes:
      log_prior: its weight in its search, [R].
      finite: whether the model gave finite numbers only, [R].
      log_probs: log p(token|x,z,prefix) of its search's continuations, [R, S + 1, C].
      end_log_probs: log p(end token) after the finished hypotheses that the limit cut, [R, B].
    """

    log_prior: Tensor
    finite: Tensor
    log_probs: Tensor
    end_log_probs: Tensor


def empty_history(
    log_prior: Tensor, searches: int, beams: int, steps: int
) -> tuple[SearchColumns, DocumentColumns]:
    """Columns of searches that have not begun; `log_prior` is float64 [R]."""
    device, documents = log_prior.device, len(log_prior)
    width = 2 * beams

    def of_steps(width: int) -> Tensor:
        return torch.zeros(searches, steps + 1, width, dtype=torch.int64, device=device)

    def of_finished() -> Tensor:
        return torch.zeros(searches, beams, dtype=torch.int64, device=device)

    return SearchColumns(
        tokens=of_steps(width),
        parents=of_steps(width),
        sums=torch.full((searches, steps + 1, width), -torch.inf, dtype=torch.float64, device=device),
        running=of_steps(beams),
        finished_scores=torch.full((searches, beams), -torch.inf, dtype=torch.float64, device=device),
        finished_steps=of_finished(),
        finished_ranks=of_finished(),
        finished_cut=of_finished().bool(),
    ), DocumentColumns(
        log_prior=log_prior,
        finite=torch.ones(documents, dtype=torch.bool, device=device),
        log_probs=torch.zeros(documents, steps + 1, width, dtype=torch.float64, device=device),
        end_log_probs=torch.zeros(documents, beams, dtype=torch.float64, device=device),
    )


def search_results(
    searches: SearchColumns, documents: DocumentColumns, sizes: Sequence[int], end_token: int
) -> list[SearchResult]:
    """Reads the hypotheses of closed searches, of `sizes` documents each, back from their history."""
    of_search, of_document = searches.to_numpy(), documents.to_numpy()
    results = []
    start = 0
    for number, size in enumerate(sizes):
        history = {name: column[number] for name, column in of_search.items()}
        own = {name: column[start : start + size] for name, column in of_document.items()}
        start += size
        hypotheses = [
            _hypothesis(history, own, place)
            for place in np.flatnonzero(history["finished_scores"] > -np.inf).tolist()
        ]
        trace = SearchTrace(history["tokens"][:-1], history["parents"][:-1], history["sums"][:-1], end_token)
        results.append(SearchResult(hypotheses, bool(own["finite"].all()), trace))
    return results


def _hypothesis(history: dict[str, NDArray], documents: dict[str, NDArray], place: int) -> Hypothesis:
    """Follows the parents of a finished hypothesis back to the first step."""
    last, rank = int(history["finished_steps"][place]), int(history["finished_ranks"][place])
    path = [rank]
    for step in range(last, 0, -1):
        beam = history["parents"][step, path[-1]]
        path.append(int(history["running"][step - 1, beam]))
    path.reverse()
    steps = np.arange(last + 1)
    tokens = history["tokens"][steps, path]
    log_probs = documents["log_probs"][:, steps, path]
    cut = bool(history["finished_cut"][place])
    if cut:
        log_probs = np.hstack([log_probs, documents["end_log_probs"][:, place, None]])
    else:
        tokens = tokens[:-1]
    return Hypothesis(tuple(tokens.tolist()), cut, float(history["finished_scores"][place]), log_probs)
