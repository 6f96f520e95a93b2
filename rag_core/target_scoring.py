"""Log-probabilities of given targets under given documents, over cached encodings.

A document is encoded once and its cross-attention projected once; its targets form a prefix tree, so that
a prefix that targets share is computed once. Models whose tokens can have positions of their own (BART)
read a whole tree in one pass, others (T5) level by level with the same decoder state as a beam search. Of
the logits only the normalisers and the targets' are kept.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rag_core.decoder import DecoderState, EncodedDocuments, read_trees
from rag_core.generator import Generator
from rag_core.marginalize import log_normalisers
from rag_core.prefix_tree import prefix_trees

# of the logits [nodes, V] that one pass over trees holds
_LOGIT_BYTES = 2**28


def score_targets(
    generator: Generator,
    documents: EncodedDocuments,
    pairs: Sequence[tuple[int, tuple[int, ...]]],
    batch_tokens: int,
) -> list[NDArray[np.float64]]:
    """log p(y_t|x,z,y_<t) for (document, target) pairs, by teacher forcing.

    Args:
      pairs: index of a document, and a target's tokens after the decoder's prompt (the end token is one of
        them where it counts); at least one token each.
      batch_tokens: bound on the context tokens whose cross-attention, and on the target tokens whose
        self-attention is held at a time, padding included.

    Returns:
      For each pair, float64 [len(target)].
    """
    scored: list[NDArray[np.float64]] = [np.empty(0)] * len(pairs)
    documents_at_once = max(1, batch_tokens // documents.positions)
    reads_trees = documents.decoder.reads_trees
    score_chunk = _score_trees if reads_trees else _score_levels
    if reads_trees:
        batch_tokens = min(batch_tokens, _LOGIT_BYTES // (4 * generator.model.config.vocab_size))
    with torch.inference_mode():
        for chunk in _chunks(pairs, documents_at_once, batch_tokens):
            numbers = np.array([pairs[i][0] for i in chunk])
            present, document = np.unique(numbers, return_inverse=True)
            if not documents.projected and len(documents) <= documents_at_once:
                DecoderState(documents).step(_prompts(generator, documents))  # once for all chunks
            whole = len(present) == len(documents)
            subset = documents if whole else documents.select(torch.from_numpy(present).to(generator.device))
            for i, log_probs in zip(
                chunk, score_chunk(generator, subset, document, [pairs[i][1] for i in chunk]), strict=True
            ):
                scored[i] = log_probs
    return scored


def _chunks(
    pairs: Sequence[tuple[int, tuple[int, ...]]], max_documents: int, batch_tokens: int
) -> Iterator[list[int]]:
    """Indices of pairs, by document, such that documents · (targets a document) · (tokens a target) fits."""
    targets_of = np.bincount([document for document, _ in pairs])
    # documents with equally many targets side by side: the rows of a chunk are padded to its largest tree
    order = sorted(range(len(pairs)), key=lambda i: (-targets_of[pairs[i][0]], pairs[i][0]))
    chunk: list[int] = []
    counts: Counter[int] = Counter()
    widest = longest = 0
    for i in order:
        document, target = pairs[i]
        counts[document] += 1
        widest, longest = max(widest, counts[document]), max(longest, len(target))
        too_large = len(counts) * widest * longest > batch_tokens or len(counts) > max_documents
        if chunk and too_large:
            yield chunk
            chunk, counts, widest, longest = [], Counter([document]), 1, len(target)
        chunk.append(i)
    if chunk:
        yield chunk


def _prompts(generator: Generator, documents: EncodedDocuments) -> Tensor:
    """The decoder's prompt for each document, int64 [R, 1, P]."""
    return torch.tensor(generator.prompt, device=generator.device).expand(len(documents), 1, -1)


def _score_trees(
    generator: Generator,
    documents: EncodedDocuments,
    document: NDArray[np.int64],
    targets: Sequence[tuple[int, ...]],
) -> list[NDArray[np.float64]]:
    """Scores targets[i] under document[i] in one pass; every document has at least one."""
    device = generator.device
    trees = prefix_trees(generator.prompt, document.tolist(), targets)
    logits = read_trees(
        documents,
        *(torch.from_numpy(array).to(device) for array in (trees.tokens, trees.positions, trees.visible)),
    )
    lengths = [len(target) for target in targets]
    row = torch.from_numpy(document.repeat(lengths)).to(device)
    node = torch.from_numpy(np.concatenate(trees.readers)).to(device)
    token = torch.tensor([token for target in targets for token in target], device=device)
    chosen = logits[row, node, token].double() - log_normalisers(logits)[row, node].double()
    return np.split(chosen.cpu().numpy(), np.cumsum(lengths)[:-1])


def _score_levels(
    generator: Generator,
    documents: EncodedDocuments,
    document: NDArray[np.int64],
    targets: Sequence[tuple[int, ...]],
) -> list[NDArray[np.float64]]:
    """Scores targets[i] under document[i], level by level; every document has at least one."""
    device = generator.device
    lengths = np.array([len(target) for target in targets])
    tokens = np.zeros((len(targets), lengths.max()), dtype=np.int64)
    for row, target in zip(tokens, targets, strict=True):
        row[: len(target)] = target
    log_probs = np.zeros(tokens.shape)

    state = DecoderState(documents)
    logits = state.step(_prompts(generator, documents))
    slot = np.zeros(len(targets), dtype=np.int64)  # of the row that holds the target's prefix
    alive = np.arange(len(targets))
    for level in range(tokens.shape[1]):
        rows = torch.from_numpy(document[alive] * logits.shape[1] + slot[alive]).to(device)
        wanted = torch.from_numpy(tokens[alive, level]).to(device)
        normalisers = log_normalisers(logits).flatten()
        scored = logits.flatten(0, 1)[rows, wanted].double() - normalisers[rows].double()
        log_probs[alive, level] = scored.cpu().numpy()
        alive = alive[lengths[alive] > level + 1]
        if not len(alive):
            break
        # the distinct next prefixes, in the order of their documents
        prefixes = np.stack([document[alive], slot[alive], tokens[alive, level]])
        nodes, node = np.unique(prefixes, axis=1, return_inverse=True)  # [3, nodes], [alive]
        first_of_document = np.searchsorted(nodes[0], nodes[0])
        slots = np.arange(nodes.shape[1]) - first_of_document
        parents = np.zeros((len(documents), slots.max() + 1), dtype=np.int64)
        fed = np.full_like(parents, generator.end_token)  # whatever stands where a document has fewer
        parents[nodes[0], slots] = nodes[1]
        fed[nodes[0], slots] = nodes[2]
        slot[alive] = slots[node]
        state.select(torch.from_numpy(parents).to(device))
        logits = state.step(torch.from_numpy(fed).to(device))
    return [log_probs[i, :length] for i, length in enumerate(lengths)]
