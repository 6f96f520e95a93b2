"""Continuous batching: searches that are done leave the batch, and waiting ones enter."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rag_core.answers import DecodingSettings
from rag_core.beam_search import BeamSearches
from rag_core.decoder import EncodedDocuments
from rag_core.generator import Generator
from rag_core.search_history import SearchName, SearchResult

# documents of closed searches stay in the batch, idle, until so large a share of it is idle: to replace
# them means to copy the other documents' keys and values
_IDLE_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class SearchTask:
    """A search to run.

    Attributes:
      name: what the caller knows it by.
      contexts: token ids of its documents, K of them.
      log_prior: their weights, float64 [K].
    """

    name: SearchName
    contexts: Sequence[Sequence[int]]
    log_prior: Tensor


@dataclass(frozen=True, slots=True)
class FinishedSearch:
    """A search that is done.

    Attributes:
      states: encoder states of its documents, [tokens, size] each.
    """

    name: SearchName
    result: SearchResult
    states: list[Tensor]


def run_searches(
    generator: Generator, tasks: Iterable[SearchTask], settings: DecodingSettings
) -> Iterator[FinishedSearch]:
    """Runs searches in about the order given, as many at a time as `settings.batch_tokens` has room for.

    Those of similar length should follow each other: every document takes as much room as the longest beside
    it. A task that is larger than the budget runs alone.

    Yields:
      Each search when it is done.
    """
    waiting = deque(tasks)
    states: dict[SearchName, list[Tensor]] = {}
    pool: BeamSearches | None = None
    while waiting or pool is not None:
        joining = pool is None or generator.decoder.joins
        if joining and (entering := _take(waiting, pool, settings.batch_tokens)):
            entered = _begin(generator, entering, states, settings)
            if pool is None:
                pool = entered
            else:
                pool.join(entered)
        assert pool is not None
        while pool.idle_share < _IDLE_SHARE:
            pool.advance()
        for name, result in pool.take_closed():
            yield FinishedSearch(name, result, states.pop(name))
        if pool.idle_share == 1.0:
            pool = None


def _take(waiting: deque[SearchTask], pool: BeamSearches | None, batch_tokens: int) -> list[SearchTask]:
    """Removes from `waiting` what fits beside the pool."""
    taken: list[SearchTask] = []
    documents, longest = (pool.num_documents, pool.positions) if pool else (0, 0)
    while waiting:
        task = waiting[0]
        documents += len(task.contexts)
        longest = max(longest, *(len(context) for context in task.contexts))
        if documents * longest > batch_tokens and (pool or taken):
            break
        taken.append(waiting.popleft())
    return taken


def _begin(
    generator: Generator,
    tasks: Sequence[SearchTask],
    states: dict[SearchName, list[Tensor]],
    settings: DecodingSettings,
) -> BeamSearches:
    """Encodes the tasks' documents and takes the first step; the encoder states are kept in `states`."""
    encoded = generator.encode(
        [context for task in tasks for context in task.contexts], settings.batch_tokens
    )
    sizes = [len(task.contexts) for task in tasks]
    start = 0
    for task, size in zip(tasks, sizes, strict=True):
        states[task.name] = encoded[start : start + size]
        start += size
    searches = BeamSearches(
        generator,
        EncodedDocuments.pack(generator.decoder, encoded),
        [task.name for task in tasks],
        sizes,
        torch.cat([task.log_prior for task in tasks]),
        settings,
    )
    searches.advance()
    return searches
