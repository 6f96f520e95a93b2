"""RAG-Sequence decoding (Lewis et al. 2020, section 2.5): Thorough, certified where it can be, and Fast.

One beam search a document; Y is the union of all hypotheses. Thorough Decoding scores each y in Y under
each document, by an extra pass where y was not in that document's beam. Most of these scores cannot
change which y is best: the searches bound them, and Certified Thorough Decoding scores the others until
the best is certain. Fast Decoding takes p(y|x,z) ≈ 0 where y was not in z's beam, and says by how much
that can underestimate p(y|x).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rag_core.answers import Answer, DecodingSettings, Unanswered
from rag_core.candidate_union import CandidateUnion, Scoring
from rag_core.decoder import EncodedDocuments
from rag_core.generator import Generator
from rag_core.ready_question import ReadyQuestion, batches_within
from rag_core.search_history import SearchResult
from rag_core.search_pool import SearchTask, run_searches
from rag_core.target_scoring import score_targets


@dataclass(frozen=True, slots=True)
class _SearchedQuestion:
    """A question whose searches are done: a result and the encoder states of each document."""

    question: ReadyQuestion
    searches: list[SearchResult]
    states: list[Tensor]


def decode_rag_sequence(
    generator: Generator, questions: Sequence[ReadyQuestion], settings: DecodingSettings
) -> Iterator[tuple[int, Answer | Unanswered]]:
    """Answers questions; yields each one's number and result when it is done."""
    searched = _searched(generator, questions, settings)
    for batch in batches_within(searched, lambda item: item.question, settings.batch_tokens):
        yield from _answers(generator, batch, settings)


def _searched(
    generator: Generator, questions: Sequence[ReadyQuestion], settings: DecodingSettings
) -> Iterator[_SearchedQuestion]:
    """Runs a search for each document; yields the questions that have all of theirs."""
    weight = torch.zeros(1, dtype=torch.float64)
    tasks = (
        SearchTask((place, document), [context], weight)
        for place, question in enumerate(questions)
        for document, context in enumerate(question.contexts)
    )
    done: dict[int, dict[int, tuple[SearchResult, Tensor]]] = {}
    for finished in run_searches(generator, tasks, settings):
        place, document = finished.name
        of_question = done.setdefault(place, {})
        of_question[document] = finished.result, finished.states[0]
        if len(of_question) == len(questions[place].kept):
            searches, states = zip(*(of_question[z] for z in sorted(of_question)), strict=True)
            del done[place]
            yield _SearchedQuestion(questions[place], list(searches), list(states))


def _answers(
    generator: Generator, batch: Sequence[_SearchedQuestion], settings: DecodingSettings
) -> Iterator[tuple[int, Answer | Unanswered]]:
    """Scores what the decoding asks for, that of all questions together, and picks the answers."""
    unions: list[CandidateUnion] = []
    states: list[Tensor] = []
    for searched in batch:
        unions.append(CandidateUnion(generator, searched.question, len(states), searched.searches))
        states += searched.states
    if settings.decoding == "thorough":
        _score_thoroughly(generator, EncodedDocuments.pack(generator.decoder, states), unions, settings)
    for searched, union in zip(batch, unions, strict=True):
        yield searched.question.number, union.answer(settings)


def _score_thoroughly(
    generator: Generator,
    documents: EncodedDocuments,
    unions: Sequence[CandidateUnion],
    settings: DecodingSettings,
) -> None:
    """Scores candidates under the documents whose beams did not hold them: those that can matter, or all."""
    if not settings.certifiable:
        _score(generator, documents, unions, [union.missing() for union in unions], settings)
        return
    while any(scorings := [union.undecided(settings.num_candidates) for union in unions]):
        _score(generator, documents, unions, scorings, settings)


def _score(
    generator: Generator,
    documents: EncodedDocuments,
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
    scored = score_targets(generator, documents, pairs, settings.batch_tokens)
    for (union, scoring), log_probs in zip(wanted, scored, strict=True):
        union.add(scoring, log_probs)
