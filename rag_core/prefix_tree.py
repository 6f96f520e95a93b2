"""Prefix trees of targets, laid out so that one decoder pass reads a whole tree.

The targets scored under one document share prefixes. Each distinct prefix is a node, read once; a node's
self-attention sees the nodes on its path to the root and no others, and it stands at the position that it
would have in its target.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PrefixTrees:
    """The trees of R documents, each padded to N nodes, the decoder's prompt included.

    Attributes:
      tokens: int64 [R, N].
      positions: int64 [R, N].
      visible: bool [R, N, N]; [r, i, j] says whether node i sees node j. Padding sees itself.
      readers: for each target the nodes after which its tokens come, int64 [T].
    """

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    visible: NDArray[np.bool_]
    readers: list[NDArray[np.int64]]


def prefix_trees(
    prompt: Sequence[int], documents: Sequence[int], targets: Sequence[Sequence[int]]
) -> PrefixTrees:
    """Builds one tree a document.

    Args:
      prompt: what the decoder reads before every target.
      documents: of each target, which tree it belongs to, from 0; none is left out.
      targets: at least one token each; the last is read by no node.
    """
    trees = [_Tree(prompt) for _ in range(max(documents) + 1)]
    readers = [trees[document].add(target) for document, target in zip(documents, targets, strict=True)]
    shape = len(trees), max(len(tree.tokens) for tree in trees)
    tokens, positions = np.full(shape, prompt[0], dtype=np.int64), np.zeros(shape, dtype=np.int64)
    visible = np.zeros((*shape, shape[1]), dtype=bool)
    visible[:] = np.eye(shape[1], dtype=bool)
    for number, tree in enumerate(trees):
        tokens[number, : len(tree.tokens)] = tree.tokens
        for node, parent in enumerate(tree.parents):
            if parent >= 0:
                positions[number, node] = positions[number, parent] + 1
                visible[number, node] |= visible[number, parent]
    return PrefixTrees(tokens, positions, visible, readers)


class _Tree:
    """One document's nodes, parents before children."""

    def __init__(self, prompt: Sequence[int]):
        self.tokens = list(prompt)
        self.parents = list(range(-1, len(prompt) - 1))
        self._root = len(prompt) - 1
        self._children: dict[tuple[int, int], int] = {}

    def add(self, target: Sequence[int]) -> NDArray[np.int64]:
        """Adds a target's prefixes where they are new; returns the nodes after which its tokens come."""
        path = [self._root]
        for token in target[:-1]:
            edge = path[-1], token
            if edge not in self._children:
                self._children[edge] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(path[-1])
            path.append(self._children[edge])
        return np.array(path)
