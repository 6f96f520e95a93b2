"""RAG-Token decoding (Lewis et al. 2020, section 2.5): one beam search over the marginal distribution.

With documents of total prior ε pruned, the probability of each token lies in [p, p + ε]. A greedy search
whose two best tokens are further apart than ε at every step chose as it would have chosen with all
documents; where they are not, the question is answered again with all of them.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from rag_core.answers import Answer, Candidate, DecodingSettings, Unanswered, answer_tokens
from rag_core.bounds import rounding
from rag_core.generator import Generator
from rag_core.marginalize import rag_token_log_marginals, rag_token_posteriors
from rag_core.ready_question import ReadyQuestion, not_finite
from rag_core.search_history import SearchResult
from rag_core.search_pool import SearchTask, run_searches


def decode_rag_token(
    generator: Generator, questions: Sequence[ReadyQuestion], settings: DecodingSettings
) -> Iterator[tuple[int, Answer | Unanswered]]:
    """Answers questions; yields each one's number and result when it is done."""
    waiting = list(questions)
    while waiting:
        asked, waiting = waiting, []
        tasks = [
            SearchTask((place, 0), question.contexts, question.log_prior)
            for place, question in enumerate(asked)
        ]
        for finished in run_searches(generator, tasks, settings):
            question = asked[finished.name[0]]
            uncertain = settings.num_beams == 1 and not _greedy_is_certain(
                finished.result, question.pruned_mass, generator.model.dtype
            )
            if uncertain:
                waiting.append(question.pruned(0.0))
            else:
                yield question.number, _answer(generator, question, finished.result, settings)


def _greedy_is_certain(search: SearchResult, pruned_mass: float, dtype: torch.dtype) -> bool:
    """Whether pruned documents could not have changed any step's best token."""
    if pruned_mass == 0 or not search.hypotheses:
        return True
    steps = search.trace.sums[search.trace.sums[:, 0] > -np.inf]
    best, second = np.exp(steps - np.append(0.0, steps[:-1, 0])[:, None]).T
    return bool((best - second > pruned_mass + rounding(1, dtype)).all())


def _answer(
    generator: Generator, question: ReadyQuestion, search: SearchResult, settings: DecodingSettings
) -> Answer | Unanswered:
    if not (search.finite and search.hypotheses):
        return not_finite(generator)
    log_prior = question.log_prior
    marginals = [
        rag_token_log_marginals(log_prior, torch.from_numpy(hypothesis.log_probs)).numpy()
        for hypothesis in search.hypotheses
    ]
    best, log_probs = search.hypotheses[0], torch.from_numpy(search.hypotheses[0].log_probs)
    posteriors = question.over_passages(rag_token_posteriors(log_prior, log_probs).numpy(), 0.0)
    with np.errstate(divide="ignore"):
        token_bounds = np.log1p(question.pruned_mass / np.exp(marginals[0]))
    return Answer(
        answer=generator.decode(best.tokens),
        log_prob=float(marginals[0].sum()),
        finish_reason="length" if best.cut else "end",
        candidates=[
            Candidate(generator.decode(hypothesis.tokens), float(marginal.sum()))
            for hypothesis, marginal in zip(search.hypotheses, marginals, strict=True)
        ][: settings.num_candidates],
        prior=question.prior,
        passage_log_probs=question.over_passages(log_probs.sum(dim=-1).numpy(), np.nan),
        posterior=posteriors.mean(axis=-1),
        tokens=answer_tokens(generator.token_texts(best.tokens), marginals[0], posteriors)
        if settings.token_posteriors
        else None,
        answer_bound=float(token_bounds.sum()),
    )
