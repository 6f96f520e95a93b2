"""From retrieved questions to answers: the entry point of decoding."""

from collections.abc import Sequence

from rag_core.answers import Answer, DecodingSettings, RetrievedQuestion, Unanswered
from rag_core.generator import Generator
from rag_core.question_batch import question_batches, ready_questions
from rag_core.rag_sequence import decode_rag_sequence
from rag_core.rag_token import decode_rag_token


def generate_answers(
    generator: Generator, questions: Sequence[RetrievedQuestion], settings: DecodingSettings
) -> list[Answer | Unanswered]:
    """Answers questions from their passages.

    Args:
      questions: any number; they are batched by `settings.batch_tokens`, whatever their number of passages.

    Returns:
      One result a question, in order. A question's result does not depend on the others.

    Raises:
      UsageError: the generator's decoder cannot read `max_new_tokens`.
    """
    generator.check_target_length(settings.max_new_tokens)
    decode = decode_rag_sequence if settings.model_type == "rag_sequence" else decode_rag_token
    ready, unanswered = ready_questions(generator, questions)
    results: dict[int, Answer | Unanswered] = {**unanswered}
    for batch in question_batches(generator, ready, settings.batch_tokens):
        for question, result in zip(batch.questions, decode(generator, batch, settings), strict=True):
            results[question.number] = result
    return [results[number] for number in range(len(questions))]
