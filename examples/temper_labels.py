"""Tempers p(y|x,z) and p(z|x) of a model for claims, so that the most labels come out right.

p(y|x) = Σ p(z|x) p(y|x,z), and of the documents one decides. The others know nothing and lean to NOT ENOUGH INFO;
ranked higher, or all together, they outvote the one that decides. With p(y|x,z)^t for a t below 1 a document counts
the less the less sure it is; as t nears 0 the label becomes that of Σ p(z|x) log p(y|x,z). The price is that labels
are given as less sure than they are. So t is the greatest whose accuracy is within a standard error of the best.

Run `python -m examples.temper_labels --labels labels --claims practice/validation_claims --question_encoder dpr
--model reader --output tempered`.
"""

import argparse
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DPRQuestionEncoder, PreTrainedModel, T5ForConditionalGeneration
from transformers.utils import logging

from examples.scores import read_questions, read_rows
from examples.temper_prior import scale_vectors
from rag_core.generator import load_generator

_PRIOR_SCALES = (0.5, 0.6, 0.7, 0.85, 1.0, 1.2)
_LABEL_SCALES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)


def accuracy(
    prior_scale: float,
    label_scale: float,
    scores: NDArray[np.float64],
    label_probs: NDArray[np.float64],
    labels: NDArray[np.intp],
) -> float:
    """The share of claims whose most probable label is right with both tempered.

    Args:
      prior_scale: s; p(z|x) is softmax(s · scores).
      label_scale: t; p(y|x,z) is proportional to label_probs^t.
      scores: d(z)·q(x), [N, K].
      label_probs: p(y|x,z), [N, K, L].
      labels: the right ones, [N], each below L.
    """
    weights = np.exp(prior_scale * (scores - scores.max(axis=1, keepdims=True)))
    tempered = label_probs**label_scale
    tempered /= tempered.sum(axis=2, keepdims=True)
    marginal = (weights[:, :, None] * tempered).sum(axis=1)
    return float((marginal.argmax(axis=1) == labels).mean())


def fit_scales(
    scores: NDArray[np.float64], label_probs: NDArray[np.float64], labels: NDArray[np.intp]
) -> tuple[float, float]:
    """The scales of the prior and of the labels; arguments as those of `accuracy`."""
    found = {
        (prior_scale, label_scale): accuracy(prior_scale, label_scale, scores, label_probs, labels)
        for prior_scale, label_scale in itertools.product(_PRIOR_SCALES, _LABEL_SCALES)
    }
    best = max(found.values())
    enough = best - (best * (1 - best) / len(labels)) ** 0.5
    good = (scales for scales, share in found.items() if share >= enough)
    return max(good, key=lambda scales: (scales[1], found[scales], -abs(scales[0] - 1)))


@torch.no_grad()
def scale_logits(model: PreTrainedModel, scale: float) -> None:
    """Multiplies all logits of a T5: what it computes last is linear in the last normalisation's weight.

    Raises:
      TypeError: another architecture.
    """
    if not isinstance(model, T5ForConditionalGeneration):
        raise TypeError(f"expected a T5, got {type(model).__name__}")
    model.decoder.final_layer_norm.weight.mul_(scale)


def main(argv: Sequence[str] | None = None) -> None:
    """Saves the question encoder and the generator tempered, and says by how much."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.temper_labels", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--labels", type=Path, required=True, help="what `rag-beam classify` wrote")
    parser.add_argument(
        "--claims", type=Path, nargs="+", required=True, help="folders of the claims with their labels"
    )
    parser.add_argument(
        "--question_encoder", type=Path, required=True, help="by which they were searched for"
    )
    parser.add_argument("--model", required=True, help="by which they were classified")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    options = parser.parse_args(argv)
    logging.disable_progress_bar()
    rows = read_rows(options.labels)
    n_docs = max((len(row["passages"]) for row in rows), default=0)
    rows = [row for row in rows if len(row["passages"]) == n_docs]
    if not n_docs:
        parser.error(f"--labels {options.labels}: no claim with passages")
    claims = read_questions(*options.claims)
    strange = next((row["question_id"] for row in rows if row["question_id"] not in claims), None)
    if strange is not None:
        parser.error(
            f"--labels {options.labels}: claim {strange} is not in {' '.join(map(str, options.claims))}"
        )
    names = [entry["label"] for entry in rows[0]["label_probs"]]
    table = (
        np.array([[passage["score"] for passage in row["passages"]] for row in rows]),
        np.array([[passage["label_probs"] for passage in row["passages"]] for row in rows]),
        np.array([names.index(claims[row["question_id"]]["answers"][0]) for row in rows]),
    )
    prior_scale, label_scale = fit_scales(*table)
    encoder = DPRQuestionEncoder.from_pretrained(options.question_encoder)
    scale_vectors(encoder, prior_scale)
    shutil.copytree(options.question_encoder, options.output / "question_encoder", dirs_exist_ok=True)
    encoder.save_pretrained(options.output / "question_encoder")
    generator = load_generator(options.model, dtype="float32")
    scale_logits(generator.model, label_scale)
    generator.model.save_pretrained(options.output / "model")
    generator.tokenizer.save_pretrained(options.output / "model")
    print(
        f"{options.output}: scores times {prior_scale}, logits times {label_scale}; {len(rows):,} claims, "
        f"{accuracy(1.0, 1.0, *table):.4f} right before, {accuracy(prior_scale, label_scale, *table):.4f} after"
    )


if __name__ == "__main__":
    main()
