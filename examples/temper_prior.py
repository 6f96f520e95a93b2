"""Tempers p(z|x): scales the question encoder's vectors so that the right answers become most likely.

Where a passage holds no answer the sample's reader says nothing, and its answers are decoded on condition that
something is said. What counts is then p(y|x) / (1 − p(silence|x)): how passages that speak weigh against each
other, whatever the silent ones weigh. DPR's training makes p(z|x) ∝ exp(d(z)·q(x)) right about which passage is
the one, and sharper than is good for that. A LayerNorm fixes the length of q(x), so training end to end moves it
by no more than a learning rate a step; here it is fitted. `--times` below 1 makes it flatter than is most likely: then
a passage that is read with more confidence goes before one that is ranked higher, and more answers may be right.

Run `python -m examples.temper_prior --question_encoder dpr --model reader --retrievals retrievals --output tempered`.
"""

import argparse
import itertools
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import DPRQuestionEncoder
from transformers.utils import logging

from pipelines.training.questions import Ledger
from pipelines.training.rag_questions import RagSources
from rag_core.decoder import EncodedDocuments
from rag_core.errors import UsageError
from rag_core.generator import Generator, load_generator
from rag_core.metrics.retrieval import AnswerStrings
from rag_core.target_scoring import score_targets
from rag_core.training.documents import RagQuestion

_SCALES = np.geomspace(1 / 16, 4, 97)
_QUESTIONS_AT_ONCE = 16
_BATCH_TOKENS = 16_384  # of the generator's passes


def conditional_nll(scale: float, scores: Tensor, answers: Tensor, silence: Tensor) -> Tensor:
    """−log p(y|x) + log(1 − p(silence|x)) of each question, float64 [N], with p(z|x) = softmax(scale · scores).

    Args:
      scores: d(z)·q(x), float64 [N, K].
      answers: log p(y|x,z) of the right answer, float64 [N, K].
      silence: log p(silence|x,z), float64 [N, K].
    """
    prior = (scale * scores).log_softmax(dim=-1)
    nothing_said = (prior + silence).logsumexp(dim=-1).clamp(max=-1e-12)
    return -(prior + answers).logsumexp(dim=-1) + torch.log(-torch.expm1(nothing_said))


def fit_scale(scores: Tensor, answers: Tensor, silence: Tensor) -> float:
    """The scale by which the mean of `conditional_nll` is least."""
    means = [conditional_nll(scale, scores, answers, silence).mean().item() for scale in _SCALES]
    return float(_SCALES[np.argmin(means)])


@torch.no_grad()
def scale_vectors(model: DPRQuestionEncoder, scale: float) -> None:
    """Multiplies all vectors that a question encoder gives: what it computes last is linear."""
    encoder = model.question_encoder
    last = (
        encoder.encode_proj
        if encoder.projection_dim
        else encoder.bert_model.encoder.layer[-1].output.LayerNorm
    )
    last.weight.mul_(scale)
    last.bias.mul_(scale)


def log_likelihoods(generator: Generator, questions: Sequence[RagQuestion]) -> tuple[Tensor, Tensor]:
    """log p(y|x,z) of the first answer, and log p(silence|x,z): float64 [N, K] each.

    Args:
      questions: N, with K passages each.
    """
    silent = (generator.end_token,)
    sums = []
    for begin in range(0, len(questions), _QUESTIONS_AT_ONCE):
        batch = questions[begin : begin + _QUESTIONS_AT_ONCE]
        tokens = generator.tokenizer([question.answers[0] for question in batch], add_special_tokens=False)
        contexts = generator.contexts.batch([(question.question, question.passages) for question in batch])
        states = generator.encode(list(itertools.chain.from_iterable(contexts)), _BATCH_TOKENS)
        answers = [
            (*ids, generator.end_token)
            for ids, of_question in zip(tokens["input_ids"], contexts, strict=True)
            for _ in of_question
        ]
        pairs = [(document, target) for document, answer in enumerate(answers) for target in (answer, silent)]
        documents = EncodedDocuments.pack(generator.decoder, states)
        scored = score_targets(generator, documents, pairs, _BATCH_TOKENS)
        sums += [log_probs.sum() for log_probs in scored]
    both = torch.tensor(sums, dtype=torch.float64).view(len(questions), -1, 2)
    return both[..., 0], both[..., 1]


def _answerable(questions: Sequence[RagQuestion], most: int) -> list[RagQuestion]:
    """The first of which some passage holds an answer, those with the usual number of passages."""
    n_docs = max((len(question.passages) for question in questions), default=0)
    answerable = (
        question
        for question in questions
        if len(question.passages) == n_docs
        and any(AnswerStrings(question.answers).found_in(passage.text) for passage in question.passages)
    )
    return list(itertools.islice(answerable, most))


def main(argv: Sequence[str] | None = None) -> None:
    """Saves the question encoder with its vectors scaled, and says by how much."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.temper_prior", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--question_encoder", type=Path, required=True, help="folder of a DPR question encoder"
    )
    parser.add_argument("--model", required=True, help="the reader: a generator or a RAG checkpoint")
    parser.add_argument(
        "--retrievals", type=Path, required=True, help="questions with answers, searched with the encoder"
    )
    parser.add_argument("--max_questions", type=int, default=500, help="of them that are used")
    parser.add_argument("--times", type=float, default=1.0, help="the fitted scale is multiplied by it")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    options = parser.parse_args(argv)
    logging.disable_progress_bar()
    generator = load_generator(options.model, dtype="float32")
    try:
        retrieved = RagSources.plan(None, [str(options.retrievals)], "auto")
    except UsageError as error:
        parser.error(f"--retrievals: {error}")
    found = retrieved.read(sys.maxsize, generator.contexts, Ledger())
    questions = _answerable(found, options.max_questions)
    if not questions:
        parser.error(f"--retrievals {options.retrievals}: no row has a passage that holds its answer")
    answers, silence = log_likelihoods(generator, questions)
    scores = torch.tensor([question.scores for question in questions], dtype=torch.float64)
    scale = options.times * fit_scale(scores, answers, silence)
    model = DPRQuestionEncoder.from_pretrained(options.question_encoder)
    scale_vectors(model, scale)
    shutil.copytree(options.question_encoder, options.output, dirs_exist_ok=True)
    model.save_pretrained(options.output)
    before, after = (conditional_nll(by, scores, answers, silence).mean().item() for by in (1.0, scale))
    print(
        f"{options.output}: vectors times {scale:.3f}; {len(questions)} questions, -log p(y|x, something said) "
        f"{before:.4f} before, {after:.4f} after"
    )


if __name__ == "__main__":
    main()
