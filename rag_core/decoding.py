"""From retrieved questions to answers: the entry point of decoding."""

import dataclasses
from collections.abc import Sequence

from rag_core.answers import Answer, DecodingSettings, RetrievedQuestion, Unanswered
from rag_core.device_memory import decided_within_memory
from rag_core.generator import Generator
from rag_core.rag_sequence import decode_rag_sequence
from rag_core.rag_token import decode_rag_token
from rag_core.ready_question import ready_questions


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
      RecordTooLarge: a question alone does not fit into the device's memory.
    """
    generator.check_target_length(settings.max_new_tokens)
    ready, unanswered = ready_questions(generator, questions)
    decode = decode_rag_sequence if settings.model_type == "rag_sequence" else decode_rag_token
    pruned = [question.pruned(settings.prune_mass) for question in ready]
    results: dict[int, Answer | Unanswered] = {**unanswered}
    results |= decided_within_memory(
        # the longest first: what will not fit in memory shows at once
        sorted(pruned, key=lambda question: -question.longest),
        settings.batch_tokens,
        generator.device,
        lambda waiting, budget: decode(
            generator, waiting, dataclasses.replace(settings, batch_tokens=budget)
        ),
    )
    return [results[number] for number in range(len(questions))]
