"""Tempers p(z|x): scales the question encoder's vectors so that the right answers become most likely.

Where a passage holds no answer the sample's reader says nothing, and its answers are decoded on condition that
something is said. What counts is then p(y|x) / (1 − p(silence|x)): how passages that speak weigh against each
other, whatever the silent ones weigh. DPR's training makes p(z|x) ∝ exp(d(z)·q(x)) right about which passage is
the one, and sharper than is good for that. A LayerNorm fixes the length of q(x), so training end to end moves it
by no more than a learning rate a step; here it is fitted.

Run `python -m examples.temper_prior --question_encoder dpr --model reader --retrievals retrievals --output tempered`.
"""

import argparse
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor
from transformers import DPRQuestionEncoder
from transformers.utils import logging

from rag_core.context import PassageText
from rag_core.generator import Generator, load_generator
from rag_core.metrics.retrieval import AnswerStrings
from rag_core.training.rag_loss import RagExample, rag_nll

_SCALES = np.geomspace(1 / 16, 4, 97)
_QUESTIONS_AT_ONCE = 16


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


@torch.no_grad()
def log_likelihoods(generator: Generator, rows: Sequence[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    """log p(y|x,z) of the first answer, and log p(silence|x,z): float64 [N, K] each.

    Args:
      rows: N of the retrievals table, with K passages each.
    """
    asked = [
        (row["question"], [PassageText(passage["title"], passage["text"]) for passage in row["passages"]])
        for row in rows
    ]
    answers, silence = [], []
    for begin in range(0, len(rows), _QUESTIONS_AT_ONCE):
        batch = slice(begin, begin + _QUESTIONS_AT_ONCE)
        tokens = generator.tokenizer([row["answers"][0] for row in rows[batch]], add_special_tokens=False)
        contexts = generator.contexts.batch(asked[batch])
        for of_rows, targets in (
            (answers, [(*ids, generator.end_token) for ids in tokens["input_ids"]]),
            (silence, [(generator.end_token,)] * len(contexts)),
        ):
            examples = [
                RagExample([context], target)
                for of_question, target in zip(contexts, targets, strict=True)
                for context in of_question
            ]
            # each passage as the only one: its p(z|x) is 1
            alone = torch.zeros(len(examples), 1, device=generator.device)
            nll = rag_nll("rag_sequence", generator.model, generator.prompt, alone, examples)
            of_rows.append(-nll.view(len(contexts), -1).cpu())
    return torch.cat(answers), torch.cat(silence)


def _answerable(folder: Path, most: int) -> list[dict[str, Any]]:
    """The first rows of which some passage holds an answer, those with the usual number of passages."""
    rows = [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    n_docs = max((len(row["passages"]) for row in rows), default=0)
    answerable = (
        row
        for row in rows
        if len(row["passages"]) == n_docs
        and any(AnswerStrings(row["answers"]).found_in(passage["text"]) for passage in row["passages"])
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
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    options = parser.parse_args(argv)
    logging.disable_progress_bar()
    rows = _answerable(options.retrievals, options.max_questions)
    if not rows:
        parser.error(f"--retrievals {options.retrievals}: no row has a passage that holds its answer")
    generator = load_generator(options.model, dtype="float32")
    answers, silence = log_likelihoods(generator, rows)
    scores = torch.tensor(
        [[passage["score"] for passage in row["passages"]] for row in rows], dtype=torch.float64
    )
    scale = fit_scale(scores, answers, silence)
    model = DPRQuestionEncoder.from_pretrained(options.question_encoder)
    scale_vectors(model, scale)
    shutil.copytree(options.question_encoder, options.output, dirs_exist_ok=True)
    model.save_pretrained(options.output)
    before, after = (conditional_nll(by, scores, answers, silence).mean().item() for by in (1.0, scale))
    print(
        f"{options.output}: vectors times {scale:.3f}; {len(rows)} questions, -log p(y|x, something said) "
        f"{before:.4f} before, {after:.4f} after"
    )


if __name__ == "__main__":
    main()
