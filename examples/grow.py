"""Makes trained models larger: weights that change nothing yet, or next to nothing, to be trained further.

A new layer follows the one whose weights it copies, a new hidden unit of a feed-forward layer reads at random;
but the weights by which either would add something are zero. So the function is kept, as in Net2Net (Chen et
al. 2016), and layers are stacked as in Gong et al. 2019.

Run `python -m examples.grow --model trained --layers 6 --feed_forward 1024 --output larger`.
"""

import argparse
import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoTokenizer,
    DPRContextEncoder,
    DPRQuestionEncoder,
    PreTrainedModel,
    T5ForConditionalGeneration,
)
from transformers.utils import logging

from rag_core.encoders import PASSAGE_ENCODER_KEY
from rag_core.generator import load_generator

_LAYER = re.compile(r"encoder\.(?:block|layer)\.(\d+)\.")
# what a layer, or a hidden unit, adds to the stream that passes through comes from these
_ADDING = re.compile(r"SelfAttention\.o\.|DenseReluDense\.wo\.|output\.dense\.")

DprEncoder = TypeVar("DprEncoder", DPRQuestionEncoder, DPRContextEncoder)
Model = TypeVar("Model", T5ForConditionalGeneration, DPRQuestionEncoder, DPRContextEncoder)
_DPR_ENCODERS = {encoder.__name__: encoder for encoder in (DPRQuestionEncoder, DPRContextEncoder)}


def deepen_generator(model: T5ForConditionalGeneration, layers: int) -> T5ForConditionalGeneration:
    """The same function with more layers in its encoder.

    Args:
      layers: that the encoder is to have; the new ones are spread evenly over the old ones.

    Raises:
      ValueError: it has more layers already.
    """
    deeper = _drawn(model, num_layers=layers)
    _stack(model, deeper, model.config.num_layers, layers)
    return deeper


def deepen_encoder(model: DprEncoder, layers: int) -> DprEncoder:
    """Nearly the same function with more layers, belonging to no other encoder; the rest as `deepen_generator`.

    BERT normalises what has passed a layer, so zeros alone do not keep it. It is γ⊙n + β, n normalised: of mean
    E[β] and variance E[γ²] + Var[β], as far as n and γ are independent. Given these as its scale and shift, a new
    layer's normalisation gives back what it gets.
    """
    deeper = _drawn(model, num_hidden_layers=layers)
    weights = model.state_dict()
    for name, weight, source in _stack(model, deeper, model.config.num_hidden_layers, layers):
        if ".LayerNorm." in name:
            output = _LAYER.sub(r"\g<0>output.LayerNorm.", source).partition(".LayerNorm.")[0]
            scale, shift = weights[f"{output}.LayerNorm.weight"], weights[f"{output}.LayerNorm.bias"]
            spread = (scale.square().mean() + shift.var(correction=0)).sqrt()
            weight.fill_(spread if name.endswith("weight") else shift.mean())
    return deeper


def widen(model: Model, hidden_units: int) -> Model:
    """The same function with more hidden units in each feed-forward layer, belonging to no other encoder.

    Args:
      hidden_units: that each is to have; what the new ones read is drawn at random, as strongly as the old do.

    Raises:
      ValueError: it has more already.
    """
    width = "d_ff" if isinstance(model, T5ForConditionalGeneration) else "intermediate_size"
    before = getattr(model.config, width)
    if hidden_units < before:
        raise ValueError(f"{hidden_units} hidden units; there are {before} already, none is taken away")
    wider = _drawn(model, **{width: hidden_units})
    weights = model.state_dict()
    for name, weight in wider.state_dict().items():
        old = weights[name]
        if old.shape != weight.shape:
            adds_nothing = _ADDING.search(name) or name.endswith("bias")
            weight.mul_(0.0 if adds_nothing else old.std() / weight.std())
        weight[tuple(map(slice, old.shape))].copy_(old)
    return wider


def _drawn(model: Model, **sizes: int) -> Model:
    """A model like it but for these of its config, its weights drawn at random; it belongs to no other encoder."""
    config = copy.deepcopy(model.config)
    config.update(sizes)
    vars(config).pop(PASSAGE_ENCODER_KEY, None)
    return type(model)(config).train(model.training)


def _stack(
    model: PreTrainedModel, deeper: PreTrainedModel, before: int, layers: int
) -> list[tuple[str, Tensor, str]]:
    """Copies the weights.

    Returns:
      Of the new layers each weight's name, the weight, and the name of what it was copied from.
    """
    if layers < before:
        raise ValueError(f"{layers} layers; the encoder has {before} already, none is taken away")
    copied = [position * before // layers for position in range(layers)]
    weights = model.state_dict()
    new = []
    for name, weight in deeper.state_dict().items():
        layer = _LAYER.search(name)
        position = int(layer[1]) if layer else 0
        source = (
            name if layer is None else f"{name[: layer.start(1)]}{copied[position]}{name[layer.end(1) :]}"
        )
        weight.copy_(weights[source])
        if position and copied[position] == copied[position - 1]:
            if _ADDING.search(name):
                weight.zero_()
            new.append((name, weight, source))
    return new


def main(argv: Sequence[str] | None = None) -> None:
    """Saves the larger model with its tokenizer."""
    parser = argparse.ArgumentParser(prog="python -m examples.grow", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True, help="a T5, a RAG checkpoint with one, or a DPR encoder")
    parser.add_argument("--layers", type=int, help="that its encoder is to have")
    parser.add_argument("--feed_forward", type=int, help="hidden units that each layer is to have")
    parser.add_argument("--seed", type=int, default=1, help="of what new hidden units read")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    options = parser.parse_args(argv)
    if options.layers is None and options.feed_forward is None:
        parser.error("nothing is to grow; give --layers, --feed_forward or both")
    logging.disable_progress_bar()
    torch.manual_seed(options.seed)
    try:
        model, tokenizer = _load(options.model)
        if options.layers is not None:
            deepen = deepen_generator if isinstance(model, T5ForConditionalGeneration) else deepen_encoder
            model = deepen(model, options.layers)
        if options.feed_forward is not None:
            model = widen(model, options.feed_forward)
    except ValueError as error:
        parser.error(f"--model {options.model}: {error}")
    model.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    print(f"{options.output}: {model.num_parameters():,} weights")


def _load(folder: str) -> tuple[Any, Any]:
    """A model that can grow, with its tokenizer.

    Raises:
      ValueError: it is none.
    """
    encoder = _DPR_ENCODERS.get((AutoConfig.from_pretrained(folder).architectures or [""])[0])
    if encoder is not None:
        return encoder.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    generator = load_generator(folder, device="cpu", dtype="float32")
    if not isinstance(generator.model, T5ForConditionalGeneration):
        raise ValueError(f"its generator is a {type(generator.model).__name__}, expected a T5")
    return generator.model, generator.tokenizer


if __name__ == "__main__":
    main()
