"""What the decoders must give, by other means: plain uncached passes of the model in float64, and transformers.

Nothing here uses the project's decoder states, caches, attention or searches.
"""

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import DPRConfig, PreTrainedModel, RagConfig, RagTokenForGeneration

from rag_core.answers import RetrievedQuestion
from rag_core.context import PassageText
from rag_core.generator import Generator
from tests.rag_core.tiny_generators import SENTENCES, tiny_question_encoder

WORDS = " ".join(SENTENCES).split()


def random_questions(seed: int, sizes: Sequence[int], max_words: int = 30) -> list[RetrievedQuestion]:
    """Questions with sizes[i] passages of different lengths, scores in DPR's range, in random order."""
    draw = np.random.default_rng(seed)
    questions = []
    for size in sizes:
        passages = tuple(
            PassageText(
                " ".join(draw.choice(WORDS, draw.integers(0, 4))),
                " ".join(draw.choice(WORDS, draw.integers(1, max_words))),
            )
            for _ in range(size)
        )
        scores = (75 + draw.normal(size=size)).astype(np.float32)
        questions.append(RetrievedQuestion(" ".join(draw.choice(WORDS, 5)) + " ?", passages, scores))
    return questions


def eager_model(generator: Generator) -> PreTrainedModel:
    """A copy of the generator's model with transformers' own attention."""
    model = copy.deepcopy(generator.model)
    model.set_attn_implementation("eager")
    return model


def log_prior(question: RetrievedQuestion) -> np.ndarray:
    scores = question.scores.astype(np.float64)
    return scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())


def log_distributions(
    model: PreTrainedModel, prompt: Sequence[int], context: Sequence[int], target: Sequence[int]
) -> np.ndarray:
    """log p(v | context, prompt, target_<t), one pass without padding or cache; float64 [T, V]."""
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([context]),
            decoder_input_ids=torch.tensor([[*prompt, *target[:-1]]]),
            use_cache=False,
        ).logits[0, len(prompt) - 1 :]
    return logits.double().log_softmax(-1).numpy()


def token_log_probs(
    model: PreTrainedModel, prompt: Sequence[int], context: Sequence[int], target: Sequence[int]
) -> np.ndarray:
    """log p(target_t | context, prompt, target_<t); float64 [T]."""
    return log_distributions(model, prompt, context, target)[range(len(target)), list(target)]


def contexts_of(generator: Generator, question: RetrievedQuestion) -> list[list[int]]:
    return generator.contexts(question.question, question.passages)


def scores_under_documents(
    generator: Generator, model: PreTrainedModel, question: RetrievedQuestion, target: Sequence[int]
) -> np.ndarray:
    """[K, T]"""
    return np.stack(
        [
            token_log_probs(model, generator.prompt, context, target)
            for context in contexts_of(generator, question)
        ]
    )


@dataclass(frozen=True)
class Marginal:
    """A candidate of RAG-Sequence: its tokens and log p(y|x), of documents `under` only."""

    tokens: tuple[int, ...]
    log_prob: float
    passage_log_probs: np.ndarray
    under: frozenset[int]


def transformers_beams(
    generator: Generator,
    model: PreTrainedModel,
    context: Sequence[int],
    num_beams: int,
    limit: int,
    **options: object,
) -> list[tuple[int, ...]]:
    """The hypotheses of transformers' own canonical beam search, without prompt and end token."""
    sequences = model.generate(
        input_ids=torch.tensor([context]),
        attention_mask=torch.ones(1, len(context), dtype=torch.long),
        decoder_input_ids=torch.tensor([generator.prompt]),
        num_beams=num_beams,
        num_return_sequences=num_beams,
        max_new_tokens=limit,
        do_sample=False,
        eos_token_id=generator.end_token,
        **({"early_stopping": "never", "length_penalty": 0.0} | options if num_beams > 1 else options),
    )
    return [answer_tokens(generator, row[len(generator.prompt) :].tolist()) for row in sequences]


def answer_tokens(generator: Generator, sequence: list[int]) -> tuple[int, ...]:
    """A generated sequence up to its end token."""
    return tuple(itertools.takewhile(lambda token: token != generator.end_token, sequence))


def rag_sequence_candidates(
    generator: Generator,
    question: RetrievedQuestion,
    num_beams: int,
    limit: int,
    *,
    thorough: bool,
    **options: object,
) -> list[Marginal]:
    """Every candidate of the union, best first, marginalised in float64."""
    model = eager_model(generator)
    beams = [
        transformers_beams(generator, model, context, num_beams, limit, **options)
        for context in contexts_of(generator, question)
    ]
    prior = log_prior(question) if question.passages else np.zeros(1)
    candidates = []
    for target in dict.fromkeys(target for beam in beams for target in beam):
        scores = scores_under_documents(generator, model, question, (*target, generator.end_token)).sum(
            axis=1
        )
        under = frozenset(z for z, beam in enumerate(beams) if thorough or target in beam)
        log_prob = np.logaddexp.reduce([prior[z] + scores[z] for z in sorted(under)])
        candidates.append(Marginal(target, float(log_prob), scores, under))
    return sorted(candidates, key=lambda candidate: -candidate.log_prob)


def rag_token_transformers(
    generator: Generator, question: RetrievedQuestion, num_beams: int, limit: int, **options: object
) -> list[tuple[int, ...]]:
    """Hypotheses of transformers' RagTokenForGeneration on the same weights, without prompt and end token."""
    model = eager_model(generator)
    question_encoder = tiny_question_encoder()
    assert isinstance(question_encoder.config, DPRConfig)
    config = RagConfig.from_question_encoder_generator_configs(question_encoder.config, model.config)
    rag = RagTokenForGeneration(config=config, question_encoder=question_encoder, generator=model).eval()
    rag.rag.generator = model
    contexts = contexts_of(generator, question)
    longest = max(len(context) for context in contexts)
    ids = torch.tensor([[*context, *[0] * (longest - len(context))] for context in contexts])
    mask = torch.tensor([[1] * len(context) + [0] * (longest - len(context)) for context in contexts])
    forced = generator.prompt[1] if len(generator.prompt) > 1 else None
    sequences = rag.generate(
        context_input_ids=ids,
        context_attention_mask=mask,
        doc_scores=torch.tensor(question.scores, dtype=torch.float64)[None],
        n_docs=len(contexts),
        num_beams=num_beams,
        num_return_sequences=num_beams,
        max_length=len(generator.prompt) + limit,
        do_sample=False,
        decoder_start_token_id=generator.prompt[0],
        forced_bos_token_id=forced,
        eos_token_id=generator.end_token,
        pad_token_id=model.config.pad_token_id,
        **({"early_stopping": "never", "length_penalty": 0.0} | options if num_beams > 1 else options),
    )
    return [answer_tokens(generator, row[len(generator.prompt) :].tolist()) for row in sequences]
