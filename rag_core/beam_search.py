"""Beam searches over documents, many at a time, with the semantics of `transformers`.

A search marginalises the next token over its group of documents, weighted by their prior. RAG-Sequence
has one search a document (a group of one, section 2.5); RAG-Token one search a question (a group of K,
the marginal of section 2.1). Both are the same loop, and each search has its own step, so that searches
may leave and others join at any time.

The semantics are those of `early_stopping="never"`: of a step's best 2B continuations, one that ends
(end token, or the length limit) is finished only at rank < B; the best B others run on; the best B
finished ones are kept, compared by sum / length^length_penalty with the decoder's prompt not counted; a
search stops when its best running beam can no longer beat its worst finished one.

Legend: A searches, R their documents, n running beams a search (1 at first, then B), S steps at most,
C = 2B continuations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from rag_core.answers import DecodingSettings
from rag_core.decoder import DecoderState, EncodedDocuments
from rag_core.generator import Generator
from rag_core.marginalize import log_normalisers
from rag_core.search_history import Columns, SearchName, SearchResult, empty_history, search_results
from rag_core.token_bans import NO_TOKEN, without_banned


@dataclass(slots=True)
class _Running(Columns):
    """Where each search is.

    Attributes:
      sizes: documents of each, [A].
      steps: how many it has taken, [A].
      open: whether it goes on, [A].
      prefixes: the running beams' tokens, the prompt included, right-aligned, [A, n, length].
      scores: their sums, −inf where a beam is none, [A, n].
      fed: what the decoder reads next: a token a beam [A, n], at first the prompt [A, 1, P].
      parents: which of the decoder's rows it continues, [A, n].
    """

    sizes: Tensor
    steps: Tensor
    open: Tensor
    prefixes: Tensor
    scores: Tensor
    parents: Tensor
    fed: Tensor


class BeamSearches:
    """Searches that advance together, each from its own first step to its own last."""

    def __init__(
        self,
        generator: Generator,
        documents: EncodedDocuments,
        names: Sequence[SearchName],
        sizes: Sequence[int],
        log_prior: Tensor,
        settings: DecodingSettings,
    ):
        """Prepares a search for each group of documents.

        Args:
          documents: all groups' documents, group by group.
          names: what to call each search, for the caller.
          sizes: documents of each group, each at least 1.
          log_prior: weight of each document in its group, float64 [R].
        """
        device = documents.hidden.device
        self._settings = settings
        self._end_token = generator.end_token
        # greedy takes the first end token, whatever the penalty
        self._length_penalty = settings.length_penalty if settings.num_beams > 1 else 0.0
        self._state = DecoderState(documents)
        self._names = list(names)
        self._sizes = list(sizes)
        prompt = torch.tensor(generator.prompt, device=device)
        self._longest_prefix = len(prompt) + settings.max_new_tokens
        self._running = _Running(
            sizes=torch.tensor(sizes, device=device),
            steps=torch.zeros(len(sizes), dtype=torch.int64, device=device),
            open=torch.ones(len(sizes), dtype=torch.bool, device=device),
            prefixes=prompt.repeat(len(sizes), 1, 1),
            scores=torch.zeros(len(sizes), 1, dtype=torch.float64, device=device),
            parents=torch.zeros(len(sizes), 1, dtype=torch.int64, device=device),
            fed=prompt.repeat(len(sizes), 1, 1),
        )
        self._group = torch.repeat_interleave(self._running.sizes)  # the search of each document [R]
        self._settled = True  # whether the decoder's rows are already those that the next tokens continue
        self._history, self._documents = empty_history(
            log_prior.to(device), len(sizes), settings.num_beams, settings.max_new_tokens
        )

    @property
    def num_documents(self) -> int:
        """Documents held, those of closed searches included."""
        return len(self._documents.log_prior)

    @property
    def positions(self) -> int:
        """Tokens that each document takes, padding included."""
        return self._state.positions

    @property
    def idle_share(self) -> float:
        """Which share of the documents belongs to closed searches."""
        return 1.0 - float(self._running.sizes[self._running.open].sum()) / self.num_documents

    def advance(self) -> None:
        """Takes one step of every open search."""
        with torch.inference_mode():
            self._settle()
            logits = self._state.step(self._running.fed[self._group])
            normalisers = log_normalisers(logits)
            self._documents.finite &= normalisers.isfinite().all(dim=-1) | ~self._running.open[self._group]
            ending = self._running.open & (self._running.steps == self._settings.max_new_tokens)
            if ending.any():
                self._score_end_of_cut(ending, logits, normalisers)
                self._running.open = self._running.open & ~ending
            if self._running.open.any():
                self._take_step(logits, normalisers)

    def join(self, other: "BeamSearches") -> None:
        """Takes over the searches of another, which have begun, after those held here."""
        with torch.inference_mode():
            self._settle()
            other._settle()
            self._state.join(other._state)
            length = max(searches._running.prefixes.shape[-1] for searches in (self, other))
            for searches in (self, other):
                prefixes = searches._running.prefixes
                missing = length - prefixes.shape[-1]
                searches._running.prefixes = pad(prefixes, (missing, 0), value=NO_TOKEN)
            self._names += other._names
            self._running = self._running.join(other._running)
            self._group = torch.cat([self._group, other._group + len(self._sizes)])
            self._sizes += other._sizes
            self._history = self._history.join(other._history)
            self._documents = self._documents.join(other._documents)

    def take_closed(self) -> list[tuple[SearchName, SearchResult]]:
        """The searches that are done, by name; they and their documents leave."""
        with torch.inference_mode():
            group = self._group
            closed, left = (~self._running.open).nonzero().squeeze(1), self._running.open.nonzero().squeeze(1)
            closed_documents = (~self._running.open)[group].nonzero().squeeze(1)
            documents = self._running.open[group].nonzero().squeeze(1)
            names = [self._names[number] for number in closed.tolist()]
            results = search_results(
                self._history.select(closed),
                self._documents.select(closed_documents),
                [self._sizes[number] for number in closed.tolist()],
                self._end_token,
            )
            if len(closed) and len(left):
                parents = _ranks(self._running.parents) if self._settled else self._running.parents
                self._state.select(parents[group[documents]], documents)
                self._settled = True
                self._names = [self._names[number] for number in left.tolist()]
                self._running = self._running.select(left)
                self._sizes = [self._sizes[number] for number in left.tolist()]
                self._group = torch.repeat_interleave(self._running.sizes)
                self._history = self._history.select(left)
                self._documents = self._documents.select(documents)
            return list(zip(names, results, strict=True))

    def _settle(self) -> None:
        """Lets the decoder's rows be those that the next tokens continue."""
        if not self._settled:
            self._state.select(self._running.parents[self._group])
            self._settled = True

    def _take_step(self, logits: Tensor, normalisers: Tensor) -> None:
        """Extends, finishes and closes the open searches; the others stand still.

        Args:
          logits: [R, n, V].
          normalisers: their logsumexp [R, n].
        """
        beams, limit, history = self._settings.num_beams, self._settings.max_new_tokens, self._history
        values, offsets = self._marginals(logits, normalisers)
        values = without_banned(
            values, self._running.prefixes, self._running.steps, self._end_token, self._settings
        )
        scores, parents, tokens = self._best_continuations(values, offsets)
        log_probs = self._document_log_probs(logits, normalisers, parents, tokens)
        scores = self._exact_scores(scores, parents, log_probs)
        scores, order = scores.sort(dim=-1, descending=True, stable=True)
        parents, tokens = parents.gather(1, order), tokens.gather(1, order)
        log_probs = log_probs.gather(1, order[self._group])

        now, group = self._running, self._group
        column = now.steps.where(now.open, limit)
        searches = torch.arange(len(column), device=column.device)
        history.tokens[searches, column] = tokens
        history.parents[searches, column] = parents
        history.sums[searches, column] = scores
        self._documents.log_probs[torch.arange(len(group), device=group.device), column[group]] = log_probs

        last = (now.steps == limit - 1).unsqueeze(1)
        ended = (tokens == self._end_token) | last
        eligible = ended & (_ranks(scores) < beams) & (scores > -torch.inf) & now.open.unsqueeze(1)
        self._keep_finished(torch.where(eligible, scores, -torch.inf), tokens)

        now.scores, chosen = torch.where(ended, -torch.inf, scores).topk(beams)
        history.running[searches, column] = chosen
        now.parents, now.fed = parents.gather(1, chosen), tokens.gather(1, chosen)
        self._settled = False
        prefixes = torch.cat([_gather(now.prefixes, now.parents), now.fed.unsqueeze(-1)], dim=-1)
        now.prefixes = prefixes[..., -self._longest_prefix :]
        now.steps = now.steps + now.open
        self._close(parents, tokens)

    def _close(self, parents: Tensor, tokens: Tensor) -> None:
        """Closes the searches that no running beam can improve; those cut by the limit get one more step.

        That step reads the ends of the cut hypotheses, for the probability of the end token after them.

        Args:
          parents, tokens: of this step's continuations [A, C].
        """
        now, history, limit = self._running, self._history, self._settings.max_new_tokens
        worst_finished = history.finished_scores.amin(dim=-1)  # −inf until B are finished
        length = now.steps.double().clamp(min=limit if self._length_penalty > 0 else 1)
        improvable = now.scores[:, 0] / length**self._length_penalty > worst_finished
        cut = (history.finished_cut & (history.finished_scores > -torch.inf)).any(dim=-1)
        now.open = now.open & (improvable | cut & (now.steps == limit))
        reads_end = (now.open & (now.steps == limit)).unsqueeze(1)
        if reads_end.any():
            now.parents = torch.where(reads_end, parents.gather(1, history.finished_ranks), now.parents)
            now.fed = torch.where(reads_end, tokens.gather(1, history.finished_ranks), now.fed)
        # a closed search has nothing to add: none of its continuations may finish
        now.scores = now.scores.masked_fill(~now.open.unsqueeze(1), -torch.inf)

    def _marginals(self, logits: Tensor, normalisers: Tensor) -> tuple[Tensor, Tensor]:
        """log p(token|x,prefix) over the vocabulary as values [A, n, V] minus offsets [A, n]."""
        if len(self._sizes) == len(logits):  # groups of one: the weight moves no rank
            return logits, normalisers
        weights = (self._documents.log_prior.unsqueeze(1) - normalisers.double()).to(logits.dtype)
        values = torch.stack(
            [
                log_normalisers(part + weight.unsqueeze(-1), dim=0)
                for part, weight in zip(logits.split(self._sizes), weights.split(self._sizes), strict=True)
            ]
        )
        return values, torch.zeros_like(values[..., 0])

    def _best_continuations(self, values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (float64, descending), parents and tokens of each search's C best continuations [A, C]."""
        width = 2 * self._settings.num_beams
        # the best C of a search are among the best C of each of its beams
        best, tokens = values.topk(min(width, values.shape[-1]))
        scores = self._running.scores.unsqueeze(-1) + (best.double() - offsets.double().unsqueeze(-1))
        scores = scores.nan_to_num(nan=-torch.inf).flatten(1)
        missing = width - scores.shape[1]
        if missing > 0:  # a vocabulary of fewer than C tokens
            scores = pad(scores, (0, missing), value=-torch.inf)
        scores, order = scores.topk(width)
        order = order.clamp(max=tokens[0].numel() - 1)
        return scores, order // tokens.shape[-1], tokens.flatten(1).gather(1, order)

    def _document_log_probs(
        self, logits: Tensor, normalisers: Tensor, parents: Tensor, tokens: Tensor
    ) -> Tensor:
        """log p(token|x,z,prefix) of continuations [A, C] under each document, float64 [R, C]."""
        group = self._group
        rows = parents[group]
        document = torch.arange(len(rows), device=rows.device).unsqueeze(1)
        return logits[document, rows, tokens[group]].double() - normalisers.gather(1, rows).double()

    def _exact_scores(self, scores: Tensor, parents: Tensor, log_probs: Tensor) -> Tensor:
        """Scores of continuations [A, C] again, marginalised in float64."""
        if len(self._sizes) == len(log_probs):
            exact = log_probs + self._documents.log_prior.unsqueeze(1)
        else:
            weighted = (self._documents.log_prior.unsqueeze(1) + log_probs).split(
                self._running.sizes.tolist()
            )
            exact = torch.stack([part.logsumexp(dim=0) for part in weighted])
        exact = self._running.scores.gather(1, parents) + exact
        return exact.nan_to_num(nan=-torch.inf).where(scores > -torch.inf, -torch.inf)

    def _keep_finished(self, scores: Tensor, tokens: Tensor) -> None:
        """Merges this step's finished hypotheses (−inf marks the others) into the best B."""
        history, steps = self._history, self._running.steps.unsqueeze(1)
        normalised = scores / (steps + 1).double() ** self._length_penalty
        merged = torch.cat([history.finished_scores, normalised], dim=1)
        history.finished_scores, chosen = merged.topk(self._settings.num_beams)
        for name, new in (
            ("finished_steps", steps.expand_as(tokens)),
            ("finished_ranks", _ranks(scores)),
            ("finished_cut", tokens != self._end_token),
        ):
            kept = torch.cat([getattr(history, name), new], dim=1)
            setattr(history, name, kept.gather(1, chosen))

    def _score_end_of_cut(self, ending: Tensor, logits: Tensor, normalisers: Tensor) -> None:
        """log p(end token) after the hypotheses that the limit cut, of the searches `ending` [A]."""
        end = logits[..., self._end_token].double() - normalisers.double()
        rows = ending[self._group].unsqueeze(1)
        self._documents.end_log_probs = torch.where(rows, end, self._documents.end_log_probs)


def _gather(tensor: Tensor, slots: Tensor) -> Tensor:
    """tensor[a, slots[a, i], …] for [A, n, …] and int64 [A, m]."""
    index = slots.view(*slots.shape, *[1] * (tensor.dim() - 2)).expand(*slots.shape, *tensor.shape[2:])
    return tensor.gather(1, index)


def _ranks(scores: Tensor) -> Tensor:
    """0, 1, … along the last dimension, in the shape of `scores`."""
    return torch.arange(scores.shape[-1], device=scores.device).expand_as(scores)
