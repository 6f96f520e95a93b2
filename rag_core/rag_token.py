"""RAG-Token decoding (Lewis et al. 2020, section 2.5): one beam search over the marginal distribution."""

import torch

from rag_core.answers import Answer, Candidate, DecodingSettings, Unanswered, answer_tokens
from rag_core.beam_search import SearchResult, beam_search
from rag_core.generator import Generator
from rag_core.marginalize import rag_token_log_marginals, rag_token_posteriors
from rag_core.question_batch import QuestionBatch, ReadyQuestion, not_finite


def decode_rag_token(
    generator: Generator, batch: QuestionBatch, settings: DecodingSettings
) -> list[Answer | Unanswered]:
    """Answers the questions of a batch, in its order."""
    searches = beam_search(generator, batch.documents, batch.group_sizes, batch.log_prior, settings)
    return [
        _answer(generator, question, search, settings)
        for question, search in zip(batch.questions, searches, strict=True)
    ]


def _answer(
    generator: Generator, question: ReadyQuestion, search: SearchResult, settings: DecodingSettings
) -> Answer | Unanswered:
    if not (search.finite and search.hypotheses):
        return not_finite(generator)
    log_prior = question.log_prior
    marginals = [
        rag_token_log_marginals(log_prior, torch.from_numpy(hypothesis.log_probs))
        for hypothesis in search.hypotheses
    ]
    best, log_probs = search.hypotheses[0], torch.from_numpy(search.hypotheses[0].log_probs)
    posteriors = rag_token_posteriors(log_prior, log_probs)[: question.num_passages]
    return Answer(
        answer=generator.decode(best.tokens),
        log_prob=float(marginals[0].sum()),
        finish_reason="length" if best.cut else "end",
        candidates=[
            Candidate(generator.decode(hypothesis.tokens), float(marginal.sum()))
            for hypothesis, marginal in zip(search.hypotheses, marginals, strict=True)
        ][: settings.num_candidates],
        prior=log_prior.exp().numpy()[: question.num_passages],
        passage_log_probs=log_probs.sum(dim=-1).numpy()[: question.num_passages],
        posterior=posteriors.mean(dim=-1).numpy(),
        tokens=answer_tokens(generator.token_texts(best.tokens), marginals[0].numpy(), posteriors.numpy())
        if settings.token_posteriors
        else None,
        answer_bound=0.0,
    )
