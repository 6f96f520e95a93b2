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

import torch
from torch import Tensor
from torch.nn.functional import pad

from rag_core.answers import DecodingSettings
from rag_core.decoder import DecoderState, EncodedDocuments
from rag_core.generator import Generator
from rag_core.marginalize import log_normalisers
from rag_core.search_history import SearchName, SearchResult, empty_history, search_results

_NO_TOKEN = -1  # stands before the prompt of prefixes that are shorter than others


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
        self._sizes = torch.tensor(sizes, device=device)
        self._steps = torch.zeros(len(sizes), dtype=torch.int64, device=device)  # taken so far [A]
        self._open = torch.ones(len(sizes), dtype=torch.bool, device=device)
        prompt = torch.tensor(generator.prompt, device=device)
        self._prefixes = prompt.repeat(len(sizes), 1, 1)  # [A, n, length]
        self._scores = torch.zeros(len(sizes), 1, dtype=torch.float64, device=device)  # [A, n]
        self._history, self._documents = empty_history(
            log_prior.to(device), len(sizes), settings.num_beams, settings.max_new_tokens
        )
        self._fed = self._prefixes  # what the decoder reads next: the prompt, later a token a beam [A, n]
        self._parents = torch.zeros_like(self._steps).unsqueeze(
            1
        )  # the running beams that it continues [A, n]
        self._settled = True  # whether the decoder's rows are already those that it continues

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
        return 1.0 - float(self._sizes[self._open].sum()) / self.num_documents

    def advance(self) -> None:
        """Takes one step of every open search."""
        with torch.inference_mode():
            self._settle()
            logits = self._state.step(self._fed[self._group()])
            normalisers = log_normalisers(logits)
            self._documents.finite &= normalisers.isfinite().all(dim=-1) | ~self._open[self._group()]
            ending = self._open & (self._steps == self._settings.max_new_tokens)
            if ending.any():
                self._score_end_of_cut(ending, logits, normalisers)
                self._open = self._open & ~ending
            if self._open.any():
                self._take_step(logits, normalisers)

    def join(self, other: "BeamSearches") -> None:
        """Takes over the searches of another, which have begun, after those held here."""
        with torch.inference_mode():
            self._settle()
            other._settle()
            self._state.join(other._state)
            length = max(self._prefixes.shape[-1], other._prefixes.shape[-1])
            self._prefixes, theirs = (
                pad(prefixes, (length - prefixes.shape[-1], 0), value=_NO_TOKEN)
                for prefixes in (self._prefixes, other._prefixes)
            )
            self._prefixes = torch.cat([self._prefixes, theirs])
            self._names += other._names
            for name in ("_sizes", "_steps", "_open", "_scores", "_parents", "_fed"):
                setattr(self, name, torch.cat([getattr(self, name), getattr(other, name)]))
            self._history = self._history.join(other._history)
            self._documents = self._documents.join(other._documents)

    def take_closed(self) -> list[tuple[SearchName, SearchResult]]:
        """The searches that are done, by name; they and their documents leave."""
        with torch.inference_mode():
            group = self._group()
            closed, left = (~self._open).nonzero().squeeze(1), self._open.nonzero().squeeze(1)
            closed_documents = (~self._open)[group].nonzero().squeeze(1)
            documents = self._open[group].nonzero().squeeze(1)
            names = [self._names[number] for number in closed.tolist()]
            results = search_results(
                self._history.select(closed),
                self._documents.select(closed_documents),
                self._sizes[closed].tolist(),
                self._end_token,
            )
            if len(closed) and len(left):
                parents = _ranks(self._parents) if self._settled else self._parents
                self._state.select(parents[group[documents]], documents)
                self._settled = True
                self._names = [self._names[number] for number in left.tolist()]
                for name in ("_sizes", "_steps", "_open", "_prefixes", "_scores", "_parents", "_fed"):
                    setattr(self, name, getattr(self, name)[left])
                self._history = self._history.select(left)
                self._documents = self._documents.select(documents)
            return list(zip(names, results, strict=True))

    def _settle(self) -> None:
        """Lets the decoder's rows be those that the next tokens continue."""
        if not self._settled:
            self._state.select(self._parents[self._group()])
            self._settled = True

    def _group(self) -> Tensor:
        """The search of each document [R]."""
        return torch.repeat_interleave(self._sizes)

    def _take_step(self, logits: Tensor, normalisers: Tensor) -> None:
        """Extends, finishes and closes the open searches; the others stand still.

        Args:
          logits: [R, n, V].
          normalisers: their logsumexp [R, n].
        """
        beams, limit, history = self._settings.num_beams, self._settings.max_new_tokens, self._history
        values, offsets = self._marginals(logits, normalisers)
        values = self._without_banned(values)
        scores, parents, tokens = self._best_continuations(values, offsets)
        log_probs = self._document_log_probs(logits, normalisers, parents, tokens)
        scores = self._exact_scores(scores, parents, log_probs)
        scores, order = scores.sort(dim=-1, descending=True, stable=True)
        parents, tokens = parents.gather(1, order), tokens.gather(1, order)
        log_probs = log_probs.gather(1, order[self._group()])

        column = self._steps.where(self._open, limit)
        searches = torch.arange(len(column), device=column.device)
        history.tokens[searches, column] = tokens
        history.parents[searches, column] = parents
        history.sums[searches, column] = scores
        of_document = column[self._group()]
        self._documents.log_probs[torch.arange(len(of_document), device=column.device), of_document] = (
            log_probs
        )

        last = (self._steps == limit - 1).unsqueeze(1)
        ended = (tokens == self._end_token) | last
        eligible = ended & (_ranks(scores) < beams) & (scores > -torch.inf) & self._open.unsqueeze(1)
        self._keep_finished(torch.where(eligible, scores, -torch.inf), tokens)

        self._scores, chosen = torch.where(ended, -torch.inf, scores).topk(beams)
        history.running[searches, column] = chosen
        self._parents, self._fed = parents.gather(1, chosen), tokens.gather(1, chosen)
        self._settled = False
        self._prefixes = torch.cat([_gather(self._prefixes, self._parents), self._fed.unsqueeze(-1)], dim=-1)
        self._steps = self._steps + self._open
        self._close(parents, tokens)

    def _close(self, parents: Tensor, tokens: Tensor) -> None:
        """Closes the searches that no running beam can improve; those cut by the limit get one more step.

        That step reads the ends of the cut hypotheses, for the probability of the end token after them.

        Args:
          parents, tokens: of this step's continuations [A, C].
        """
        worst_finished = self._history.finished_scores.amin(dim=-1)  # −inf until B are finished
        limit = self._settings.max_new_tokens
        length = self._steps.double().clamp(min=limit if self._length_penalty > 0 else 1)
        improvable = self._scores[:, 0] / length**self._length_penalty > worst_finished
        cut = (self._history.finished_cut & (self._history.finished_scores > -torch.inf)).any(dim=-1)
        self._open = self._open & (improvable | cut & (self._steps == limit))
        reads_end = (self._open & (self._steps == limit)).unsqueeze(1)
        if reads_end.any():
            ranks = self._history.finished_ranks
            self._parents = torch.where(reads_end, parents.gather(1, ranks), self._parents)
            self._fed = torch.where(reads_end, tokens.gather(1, ranks), self._fed)
        # a closed search has nothing to add: none of its continuations may finish
        self._scores = self._scores.masked_fill(~self._open.unsqueeze(1), -torch.inf)

    def _marginals(self, logits: Tensor, normalisers: Tensor) -> tuple[Tensor, Tensor]:
        """log p(token|x,prefix) over the vocabulary as values [A, n, V] minus offsets [A, n]."""
        if len(self._sizes) == len(logits):  # groups of one: the weight moves no rank
            return logits, normalisers
        weights = (self._documents.log_prior.unsqueeze(1) - normalisers.double()).to(logits.dtype)
        sizes = self._sizes.tolist()
        values = torch.stack(
            [
                log_normalisers(part + weight.unsqueeze(-1), dim=0)
                for part, weight in zip(logits.split(sizes), weights.split(sizes), strict=True)
            ]
        )
        return values, torch.zeros_like(values[..., 0])

    def _without_banned(self, values: Tensor) -> Tensor:
        """Tokens that the settings do not allow get −inf, the others keep their probability."""
        size = self._settings.no_repeat_ngram
        too_short = self._steps < self._settings.min_new_tokens
        repeats = 0 < size <= self._prefixes.shape[-1]
        if not (repeats or self._settings.min_new_tokens > 0):
            return values
        values = values.clone()
        values[too_short, :, self._end_token] = -torch.inf
        if repeats:
            windows = self._prefixes.unfold(-1, size, 1)  # [A, n, windows, size]
            latest = self._prefixes[..., self._prefixes.shape[-1] - size + 1 :].unsqueeze(2)
            seen = (windows[..., :-1] == latest).all(dim=-1) & (windows != _NO_TOKEN).all(dim=-1)
            ban = torch.zeros_like(values)
            ban.scatter_add_(-1, windows[..., -1].clamp(min=0), seen.to(values.dtype))
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
            scores = pad(scores, (0, missing), value=-torch.inf)
        scores, order = scores.topk(width)
        order = order.clamp(max=tokens[0].numel() - 1)
        return scores, order // tokens.shape[-1], tokens.flatten(1).gather(1, order)

    def _document_log_probs(
        self, logits: Tensor, normalisers: Tensor, parents: Tensor, tokens: Tensor
    ) -> Tensor:
        """log p(token|x,z,prefix) of continuations [A, C] under each document, float64 [R, C]."""
        group = self._group()
        rows = parents[group]
        document = torch.arange(len(rows), device=rows.device).unsqueeze(1)
        return logits[document, rows, tokens[group]].double() - normalisers.gather(1, rows).double()

    def _exact_scores(self, scores: Tensor, parents: Tensor, log_probs: Tensor) -> Tensor:
        """Scores of continuations [A, C] again, marginalised in float64."""
        if len(self._sizes) == len(log_probs):
            exact = log_probs + self._documents.log_prior.unsqueeze(1)
        else:
            weighted = (self._documents.log_prior.unsqueeze(1) + log_probs).split(self._sizes.tolist())
            exact = torch.stack([part.logsumexp(dim=0) for part in weighted])
        exact = self._scores.gather(1, parents) + exact
        return exact.nan_to_num(nan=-torch.inf).where(scores > -torch.inf, -torch.inf)

    def _keep_finished(self, scores: Tensor, tokens: Tensor) -> None:
        """Merges this step's finished hypotheses (−inf marks the others) into the best B."""
        history, steps = self._history, self._steps.unsqueeze(1)
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
        rows = ending[self._group()].unsqueeze(1)
        self._documents.end_log_probs = torch.where(rows, end, self._documents.end_log_probs)


def _gather(tensor: Tensor, slots: Tensor) -> Tensor:
    """tensor[a, slots[a, i], …] for [A, n, …] and int64 [A, m]."""
    index = slots.view(*slots.shape, *[1] * (tensor.dim() - 2)).expand(*slots.shape, *tensor.shape[2:])
    return tensor.gather(1, index)


def _ranks(scores: Tensor) -> Tensor:
    """0, 1, … along the last dimension, in the shape of `scores`."""
    return torch.arange(scores.shape[-1], device=scores.device).expand_as(scores)
