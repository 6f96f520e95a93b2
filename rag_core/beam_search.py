"""Beam search over documents, many searches at a time, with the semantics of `transformers`.

A search marginalises the next token over its group of documents, weighted by their prior. RAG-Sequence
has one search a document (a group of one, section 2.5); RAG-Token one search a question (a group of K,
the marginal of section 2.1). Both are the same loop.

The semantics are those of `early_stopping="never"`: of a step's best 2B continuations, one that ends
(end token, or the length limit) is finished only at rank < B; the best B others run on; the best B
finished ones are kept, compared by sum / length^length_penalty with the decoder's prompt not counted; a
search stops when its best running beam can no longer beat its worst finished one.

Legend: A searches still open, S all searches, R documents of the open searches, n running beams a search
(1 at first, then B), C = 2B continuations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rag_core.answers import DecodingSettings
from rag_core.bounds import SearchTrace
from rag_core.decoder import DecoderState, EncodedDocuments
from rag_core.generator import Generator

# documents of closed searches stay in the batch, idle, until so large a share of it is idle: dropping
# them copies the other documents' keys and values
_IDLE_SHARE = 0.25


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


def beam_search(
    generator: Generator,
    documents: EncodedDocuments,
    group_sizes: Sequence[int],
    log_prior: Tensor,
    settings: DecodingSettings,
) -> list[SearchResult]:
    """Runs one search for each group of documents.

    Args:
      documents: all groups' documents, group by group.
      group_sizes: documents of each group, each at least 1.
      log_prior: weight of each document in its group, float64 [R]; sums to 1 in a group after exp.

    Returns:
      One result a group, in order.
    """
    with torch.inference_mode():
        return _BeamSearch(generator, documents, group_sizes, log_prior, settings).run()


class _BeamSearch:
    """The state of the searches. Running tensors cover the open searches, finished ones all of them."""

    def __init__(
        self,
        generator: Generator,
        documents: EncodedDocuments,
        group_sizes: Sequence[int],
        log_prior: Tensor,
        settings: DecodingSettings,
    ):
        device = documents.hidden.device
        searches, beams, steps = len(group_sizes), settings.num_beams, settings.max_new_tokens
        self._settings = settings
        self._end_token = generator.end_token
        # greedy takes the first end token, whatever the penalty
        self._length_penalty = settings.length_penalty if beams > 1 else 0.0
        self._group_sizes = np.array(group_sizes)
        self._state = DecoderState(documents)
        # open searches
        self._open = torch.arange(searches, device=device)  # which searches they are
        self._sizes = torch.tensor(group_sizes, device=device)
        self._documents = torch.arange(len(documents), device=device)  # their documents
        self._log_prior = log_prior.to(device)
        prompt = torch.tensor(generator.prompt, device=device)
        self._prefixes = prompt.repeat(searches, 1, 1)  # [A, n, length]
        self._scores = torch.zeros(searches, 1, dtype=torch.float64, device=device)  # [A, n]
        self._paths = torch.zeros(searches, 1, 0, dtype=torch.int64, device=device)  # [A, n, steps so far]
        # the best B finished hypotheses: a path is the rank among the C continuations at each step
        self._finished_scores = torch.full((searches, beams), -torch.inf, dtype=torch.float64, device=device)
        self._finished_paths = torch.zeros(searches, beams, steps, dtype=torch.int64, device=device)
        self._finished_lengths = torch.zeros(searches, beams, dtype=torch.int64, device=device)
        self._finished_cut = torch.zeros(searches, beams, dtype=torch.bool, device=device)
        # of every step, all C continuations, and log p(token|x,z,prefix) of each under each document
        self._tokens = torch.zeros(steps, searches, 2 * beams, dtype=torch.int64, device=device)
        self._parents = torch.zeros_like(self._tokens)
        self._sums = torch.full_like(self._tokens, -torch.inf, dtype=torch.float64)
        self._log_probs = torch.zeros(steps, len(documents), 2 * beams, dtype=torch.float64, device=device)
        self._end_log_probs = torch.zeros(len(documents), beams, dtype=torch.float64, device=device)
        self._finite = torch.ones(len(documents), dtype=torch.bool, device=device)

    def run(self) -> list[SearchResult]:
        logits = self._state.step(self._prefixes[self._group_of_document()])
        for step in range(self._settings.max_new_tokens):
            parents, tokens, still_open = self._advance(step, logits)
            if step == self._settings.max_new_tokens - 1:
                self._score_end_of_cut(step)
                break
            if not still_open.any():
                break
            logits = self._continue(parents, tokens, still_open)
        return self._results()

    def _group_of_document(self) -> Tensor:
        """The open search of each of its documents [R]."""
        return torch.repeat_interleave(torch.arange(len(self._sizes), device=self._sizes.device), self._sizes)

    def _marginals(self, logits: Tensor, normalisers: Tensor) -> tuple[Tensor, Tensor]:
        """log p(token|x,prefix) over the vocabulary as values [A, n, V] minus offsets [A, n]."""
        if len(self._sizes) == len(logits):  # groups of one: the weight is 1
            return logits, normalisers
        weights = self._log_prior.unsqueeze(1) - normalisers.double()
        parts = zip(
            logits.split(self._sizes.tolist()),
            weights.to(logits.dtype).split(self._sizes.tolist()),
            strict=True,
        )
        values = torch.stack([(part + weight.unsqueeze(-1)).logsumexp(dim=0) for part, weight in parts])
        return values, torch.zeros_like(values[..., 0])

    def _advance(self, step: int, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Takes one step of every open search.

        Args:
          logits: [R, n, V].

        Returns:
          Parents and tokens of the next running beams, both int64 [A, B], and which searches stay open [A].
        """
        beams, open_ = self._settings.num_beams, self._open
        normalisers = logits.logsumexp(dim=-1)
        self._finite[self._documents] &= normalisers.isfinite().all(dim=-1)
        values, offsets = self._marginals(logits, normalisers)
        values = self._without_banned(step, values)
        scores, parents, tokens = self._best_continuations(values, offsets)
        log_probs = self._document_log_probs(logits, normalisers, parents, tokens)
        scores = self._exact_scores(scores, parents, log_probs)
        scores, order = scores.sort(dim=-1, descending=True, stable=True)
        parents, tokens = parents.gather(1, order), tokens.gather(1, order)
        self._tokens[step, open_] = tokens
        self._parents[step, open_] = parents
        self._sums[step, open_] = scores
        self._log_probs[step, self._documents] = log_probs.gather(1, order[self._group_of_document()])
        paths = torch.cat([_gather(self._paths, parents), _ranks(scores).unsqueeze(-1)], dim=-1)

        last = step == self._settings.max_new_tokens - 1
        ended = (tokens == self._end_token) | last
        eligible = ended & (_ranks(scores) < beams) & (scores > -torch.inf)
        self._keep_finished(step, torch.where(eligible, scores, -torch.inf), tokens, paths)

        self._scores, chosen = torch.where(ended, -torch.inf, scores).topk(beams)
        self._paths = _gather(paths, chosen)
        parents, tokens = parents.gather(1, chosen), tokens.gather(1, chosen)
        self._prefixes = torch.cat([_gather(self._prefixes, parents), tokens.unsqueeze(-1)], dim=-1)
        worst_finished = self._finished_scores[open_].amin(dim=-1)  # −inf until B are finished
        length = self._settings.max_new_tokens if self._length_penalty > 0 else step + 1
        return parents, tokens, self._scores[:, 0] / length**self._length_penalty > worst_finished

    def _without_banned(self, step: int, values: Tensor) -> Tensor:
        """Tokens that the settings do not allow get −inf, the others keep their probability."""
        size = self._settings.no_repeat_ngram
        too_short = step < self._settings.min_new_tokens
        repeats = 0 < size <= self._prefixes.shape[-1]
        if not (too_short or repeats):
            return values
        values = values.clone()
        if too_short:
            values[..., self._end_token] = -torch.inf
        if repeats:
            windows = self._prefixes.unfold(-1, size, 1)  # [A, n, windows, size]
            latest = self._prefixes[..., self._prefixes.shape[-1] - size + 1 :]
            seen = (windows[..., :-1] == latest.unsqueeze(2)).all(dim=-1)
            ban = torch.zeros_like(values).scatter_add(-1, windows[..., -1], seen.to(values.dtype))
            values.masked_fill_(ban > 0, -torch.inf)
        return values

    def _best_continuations(self, values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (float64, descending), parents and tokens of each search's C best continuations [A, C]."""
        width = 2 * self._settings.num_beams
        # the best C of a search are among the best C of each of its beams
        best, tokens = values.topk(min(width, values.shape[-1]))
        scores = self._scores.unsqueeze(-1) + (best.double() - offsets.double().unsqueeze(-1))
        scores = scores.nan_to_num(nan=-torch.inf).flatten(1)
        missing = width - scores.shape[1]
        if missing > 0:  # a vocabulary of fewer than C tokens
            scores = torch.nn.functional.pad(scores, (0, missing), value=-torch.inf)
        scores, order = scores.topk(width)
        order = order.clamp(max=tokens[0].numel() - 1)
        return scores, order // tokens.shape[-1], tokens.flatten(1).gather(1, order)

    def _document_log_probs(
        self, logits: Tensor, normalisers: Tensor, parents: Tensor, tokens: Tensor
    ) -> Tensor:
        """log p(token|x,z,prefix) of continuations [A, C] under each document, float64 [R, C]."""
        group = self._group_of_document()
        rows = parents[group]
        document = torch.arange(len(rows), device=rows.device).unsqueeze(1)
        return logits[document, rows, tokens[group]].double() - normalisers.gather(1, rows).double()

    def _exact_scores(self, scores: Tensor, parents: Tensor, log_probs: Tensor) -> Tensor:
        """Scores of continuations [A, C] again, marginalised in float64."""
        sizes = self._sizes.tolist()
        weighted = (self._log_prior.unsqueeze(1) + log_probs).split(sizes)
        exact = self._scores.gather(1, parents) + torch.stack([part.logsumexp(dim=0) for part in weighted])
        return exact.nan_to_num(nan=-torch.inf).where(scores > -torch.inf, -torch.inf)

    def _keep_finished(self, step: int, scores: Tensor, tokens: Tensor, paths: Tensor) -> None:
        """Merges a step's finished hypotheses (−inf marks the others) into the best B."""
        open_ = self._open
        padding = self._finished_paths.shape[-1] - paths.shape[-1]
        merged = torch.cat([self._finished_scores[open_], scores / (step + 1) ** self._length_penalty], dim=1)
        self._finished_scores[open_], chosen = merged.topk(self._settings.num_beams)
        for kept, new in (
            (self._finished_paths, torch.nn.functional.pad(paths, (0, padding))),
            (self._finished_lengths, torch.full_like(tokens, step + 1)),
            (self._finished_cut, tokens != self._end_token),
        ):
            kept[open_] = _gather(torch.cat([kept[open_], new], dim=1), chosen)

    def _continue(self, parents: Tensor, tokens: Tensor, still_open: Tensor) -> Tensor:
        """Feeds the next tokens, after dropping closed searches where that pays."""
        group = self._group_of_document()
        documents = None
        if (~still_open[group]).double().mean() >= _IDLE_SHARE:
            documents = still_open[group].nonzero().squeeze(1)
            group = group[documents]
            self._documents, self._log_prior = self._documents[documents], self._log_prior[documents]
            self._open, self._sizes = self._open[still_open], self._sizes[still_open]
            self._scores, self._paths = self._scores[still_open], self._paths[still_open]
            self._prefixes = self._prefixes[still_open]
        else:
            # an idle search has nothing to add: none of its continuations may finish
            self._scores = self._scores.masked_fill(~still_open.unsqueeze(1), -torch.inf)
        self._state.select(parents[group], documents)
        return self._state.step(tokens[group])

    def _score_end_of_cut(self, step: int) -> None:
        """log p(end token) after the hypotheses that the limit cut: one more decoder step."""
        open_, group = self._open, self._group_of_document()
        if not (self._finished_cut[open_] & (self._finished_scores[open_] > -torch.inf)).any():
            return
        ranks = self._finished_paths[open_, :, step]  # of the continuation that was cut
        self._state.select(self._parents[step, open_].gather(1, ranks)[group])
        logits = self._state.step(self._tokens[step, open_].gather(1, ranks)[group])
        normalisers = logits.logsumexp(dim=-1)
        self._finite[self._documents] &= normalisers.isfinite().all(dim=-1)
        self._end_log_probs[self._documents] = logits[..., self._end_token].double() - normalisers.double()

    def _results(self) -> list[SearchResult]:
        scores, cut, lengths, paths, tokens, parents, sums, log_probs, end_log_probs, finite = (
            tensor.cpu().numpy()
            for tensor in (
                self._finished_scores,
                self._finished_cut,
                self._finished_lengths,
                self._finished_paths,
                self._tokens,
                self._parents,
                self._sums,
                self._log_probs,
                self._end_log_probs,
                self._finite,
            )
        )
        results = []
        stops = np.cumsum(self._group_sizes)
        for search, (start, stop) in enumerate(zip(stops - self._group_sizes, stops, strict=True)):
            hypotheses = []
            for rank in np.flatnonzero(scores[search] > -np.inf):
                path = paths[search, rank, : lengths[search, rank]]
                steps = np.arange(len(path))
                chosen = tokens[steps, search, path]
                scored = log_probs[steps, start:stop, path].T
                if cut[search, rank]:
                    scored = np.hstack([scored, end_log_probs[start:stop, rank, None]])
                else:
                    chosen = chosen[:-1]
                hypotheses.append(
                    Hypothesis(
                        tuple(chosen.tolist()), bool(cut[search, rank]), float(scores[search, rank]), scored
                    )
                )
            trace = SearchTrace(tokens[:, search], parents[:, search], sums[:, search], self._end_token)
            results.append(SearchResult(hypotheses, bool(finite[start:stop].all()), trace))
        return results


def _gather(tensor: Tensor, slots: Tensor) -> Tensor:
    """tensor[a, slots[a, i], …] for [A, n, …] and int64 [A, m]."""
    index = slots.view(*slots.shape, *[1] * (tensor.dim() - 2)).expand(*slots.shape, *tensor.shape[2:])
    return tensor.gather(1, index)


def _ranks(scores: Tensor) -> Tensor:
    """0, 1, … along the last dimension, in the shape of `scores`."""
    return torch.arange(scores.shape[-1], device=scores.device).expand_as(scores)
