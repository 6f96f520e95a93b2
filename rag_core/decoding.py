"""From retrieved questions to answers: the entry point of decoding."""

import dataclasses
from collections.abc import Sequence

import torch

from rag_core.answers import Answer, DecodingSettings, RetrievedQuestion, Unanswered
from rag_core.generator import Generator
from rag_core.rag_sequence import decode_rag_sequence
from rag_core.rag_token import decode_rag_token
from rag_core.ready_question import ReadyQuestion, ready_questions


def generate_answers(
    generator: Generator, questions: Sequence[RetrievedQuestion], settings: DecodingSettings
) -> list[Answer | Unanswered]:
    """Answers questions from their passages.

    Args:
      questions: any number, whatever their number of passages; `settings.batch_tokens` bounds what is
        decoded at a time.

    Returns:
      One result a question, in order. A question's result does not depend on the others. Where the device
      runs out of memory the budget is halved.

    Raises:
      UsageError: the generator's decoder cannot read `max_new_tokens`.
    """
    generator.check_target_length(settings.max_new_tokens)
    ready, unanswered = ready_questions(generator, questions)
    results: dict[int, Answer | Unanswered] = {**unanswered}
    results |= _decode_within_memory(generator, ready, settings)
    return [results[number] for number in range(len(questions))]


def _decode_within_memory(
    generator: Generator, questions: Sequence[ReadyQuestion], settings: DecodingSettings
) -> dict[int, Answer | Unanswered]:
    """Results by question number; where the device has no memory left, the budget is halved.

    The smaller budget holds for the questions that have no result yet; the others are not done again.

    Raises:
      torch.OutOfMemoryError: a question alone, in passes of one token's budget, does not fit.
    """
    decode = decode_rag_sequence if settings.model_type == "rag_sequence" else decode_rag_token
    # the longest first: what will not fit in memory shows at once
    pruned = [question.pruned(settings.prune_mass) for question in questions]
    by_length = sorted(pruned, key=lambda question: -question.longest)
    results: dict[int, Answer | Unanswered] = {}
    while len(results) < len(questions):
        waiting = [question for question in by_length if question.number not in results]
        try:
            for number, result in decode(generator, waiting, settings):
                results[number] = result
        except torch.OutOfMemoryError:
            if settings.batch_tokens == 1:
                raise
            settings = dataclasses.replace(settings, batch_tokens=settings.batch_tokens // 2)
            if generator.device.type == "cuda":
                torch.cuda.empty_cache()
    return results
