"""RAG-Sequence decoding (Lewis et al. 2020, section 2.5): Thorough, certified where it can be, and Fast.

One beam search a document; Y is the union of all hypotheses. Thorough Decoding scores each y in Y under
each document, by an extra pass where y was not in that document's beam. Most of these scores cannot
change which y is best: the searches bound them, and Certified Thorough Decoding scores the others until
the best is certain. Fast Decoding takes p(y|x,z) ≈ 0 where y was not in z's beam, and says by how much
that can underestimate p(y|x).
"""

from collections.abc import Sequence

import torch

from rag_core.answers import Answer, DecodingSettings, Unanswered
from rag_core.beam_search import beam_search
from rag_core.candidate_union import CandidateUnion, Scoring
from rag_core.generator import Generator
from rag_core.question_batch import QuestionBatch
from rag_core.target_scoring import score_targets


def decode_rag_sequence(
    generator: Generator, batch: QuestionBatch, settings: DecodingSettings
) -> list[Answer | Unanswered]:
    """Answers the questions of a batch, in its order."""
    documents = len(batch.documents)
    searches = beam_search(
        generator, batch.documents, [1] * documents, torch.zeros(documents, dtype=torch.float64), settings
    )
    unions: list[CandidateUnion] = []
    start = 0
    for question in batch.questions:
        stop = start + len(question.contexts)
        unions.append(CandidateUnion(generator, question, start, searches[start:stop]))
        start = stop
    if settings.decoding == "thorough":
        _score_thoroughly(generator, batch, unions, settings)
    return [union.answer(settings) for union in unions]


def _score_thoroughly(
    generator: Generator,
    batch: QuestionBatch,
    unions: Sequence[CandidateUnion],
    settings: DecodingSettings,
) -> None:
    """Scores candidates under the documents whose beams did not hold them: those that can matter, or all."""
    if not settings.certifiable:
        _score(generator, batch, unions, [union.missing() for union in unions], settings)
        return
    while any(scorings := [union.undecided(settings.num_candidates) for union in unions]):
        _score(generator, batch, unions, scorings, settings)


def _score(
    generator: Generator,
    batch: QuestionBatch,
    unions: Sequence[CandidateUnion],
    scorings: Sequence[Sequence[Scoring]],
    settings: DecodingSettings,
) -> None:
    """Scores what each union wants scored, that of all questions together."""
    wanted = [
        (union, scoring) for union, of_union in zip(unions, scorings, strict=True) for scoring in of_union
    ]
    pairs = []
    for union, (target, document, tokens) in wanted:
        scored_tokens = (*union.targets[target], generator.end_token)[:tokens]
        pairs.append((union.start + document, scored_tokens))
    scored = score_targets(generator, batch.documents, pairs, settings.batch_tokens)
    for (union, scoring), log_probs in zip(wanted, scored, strict=True):
        union.add(scoring, log_probs)
