"""Averages the weights of a generator, or of both encoders, before and after they were trained further.

Between the two lies one that is often better than either on texts unlike those of the training (WiSE-FT, Wortsman
et al. 2022, arXiv 2109.01903). Here the training is in an invented world, and what is asked of the real one.

Run `python -m examples.average_weights --before reader --after trained --share 0.5 --output average`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn
from transformers.utils import logging

from rag_core.generator import load_generator
from rag_core.training.bi_encoder import BiEncoder

_ENCODERS = ("question_encoder", "passage_encoder")  # folders of what `rag-beam train_retriever` wrote

Model = TypeVar("Model", bound=nn.Module)


def average_weights(before: Model, after: Model, share: float) -> Model:
    """Moves the weights of `after` to (1 − share) · before + share · after, and gives it back.

    Args:
      share: of the weights after training, in [0, 1].

    Raises:
      ValueError: the models have not the same weights, by name and shape, or the share is out of bounds.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share of {share}; expected one from 0 to 1")
    shapes = [
        {name: weight.shape for name, weight in model.state_dict().items()} for model in (before, after)
    ]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "the models have other weights than each other; expected one before and after training"
        )
    earlier = dict(before.named_parameters())
    with torch.no_grad():
        for name, weight in after.named_parameters():
            weight.copy_(earlier[name].lerp(weight, share))
    return after


def average_generators(before: str, after: str, share: float, output: Path) -> None:
    """Saves the average of two generators with the tokenizer.

    Raises:
      ValueError: as `average_weights` does.
    """
    earlier, later = (load_generator(model, device="cpu", dtype="float32") for model in (before, after))
    average_weights(earlier.model, later.model, share).save_pretrained(output)
    later.tokenizer.save_pretrained(output)


def average_retrievers(before: str, after: str, share: float, output: Path) -> None:
    """Saves the averages of two question encoders and of their passage encoders, as belonging together.

    Raises:
      ValueError: as `average_weights` does.
    """
    earlier, later = (
        BiEncoder.load(*(str(Path(model) / name) for name in _ENCODERS), device="cpu")
        for model in (before, after)
    )
    average_weights(earlier, later, share).save(output)


def main(argv: Sequence[str] | None = None) -> None:
    """Saves the average and says of what it is."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.average_weights", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--before",
        required=True,
        help="a seq2seq model, a RAG checkpoint with one, or a folder with question_encoder and passage_encoder",
    )
    parser.add_argument("--after", required=True, help="the same after training")
    parser.add_argument("--share", type=float, required=True, help="of the weights after training, 0 to 1")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    options = parser.parse_args(argv)
    logging.disable_progress_bar()
    of_retriever = all((Path(options.after) / name).is_dir() for name in _ENCODERS)
    average = average_retrievers if of_retriever else average_generators
    try:
        average(options.before, options.after, options.share, options.output)
    except ValueError as error:
        parser.error(f"{options.before} and {options.after}: {error}")
    print(f"{options.output}: {options.share:g} of {options.after}, the rest of {options.before}")


if __name__ == "__main__":
    main()
