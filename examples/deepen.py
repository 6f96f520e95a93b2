"""Deepens trained models: layers that change nothing yet, or next to nothing, to be trained further.

A new layer follows the one whose weights it copies, but for those by which it would add something: they are
zero. So the function is kept, as in Net2Net (Chen et al. 2016), and layers are stacked as in Gong et al. 2019.

Run `python -m examples.deepen --model trained --layers 6 --output deeper`.
"""

import argparse
import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

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
# what a layer adds to the stream that passes through it comes from these
_ADDING = re.compile(r"SelfAttention\.o\.|DenseReluDense\.wo\.|output\.dense\.")

DprEncoder = TypeVar("DprEncoder", DPRQuestionEncoder, DPRContextEncoder)
_DPR_ENCODERS = {encoder.__name__: encoder for encoder in (DPRQuestionEncoder, DPRContextEncoder)}


def deepen_generator(model: T5ForConditionalGeneration, layers: int) -> T5ForConditionalGeneration:
    """The same function with more layers in its encoder.

    Args:
      layers: that the encoder is to have; the new ones are spread evenly over the old ones.

    Raises:
      ValueError: it has more layers already.
    """
    config = copy.deepcopy(model.config)
    config.num_layers = layers
    deeper = T5ForConditionalGeneration(config)
    _stack(model, deeper, model.config.num_layers, layers)
    return deeper.train(model.training)


def deepen_encoder(model: DprEncoder, layers: int) -> DprEncoder:
    """Nearly the same function with more layers, belonging to no other encoder; the rest as `deepen_generator`.

    BERT normalises what has passed a layer, so zeros alone do not keep it. It is γ⊙n + β, n normalised: of mean
    E[β] and variance E[γ²] + Var[β], as far as n and γ are independent. Given these as its scale and shift, a new
    layer's normalisation gives back what it gets.
    """
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = layers
    vars(config).pop(PASSAGE_ENCODER_KEY, None)
    deeper = type(model)(config)
    weights = model.state_dict()
    for name, weight, source in _stack(model, deeper, model.config.num_hidden_layers, layers):
        if ".LayerNorm." in name:
            output = _LAYER.sub(r"\g<0>output.LayerNorm.", source).partition(".LayerNorm.")[0]
            scale, shift = weights[f"{output}.LayerNorm.weight"], weights[f"{output}.LayerNorm.bias"]
            spread = (scale.square().mean() + shift.var(correction=0)).sqrt()
            weight.fill_(spread if name.endswith("weight") else shift.mean())
    return deeper.train(model.training)


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
    """Saves the deeper model with its tokenizer."""
    parser = argparse.ArgumentParser(prog="python -m examples.deepen", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True, help="a T5, a RAG checkpoint with one, or a DPR encoder")
    parser.add_argument("--layers", type=int, required=True, help="that its encoder is to have")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    options = parser.parse_args(argv)
    logging.disable_progress_bar()
    deeper: PreTrainedModel
    try:
        encoder = _DPR_ENCODERS.get((AutoConfig.from_pretrained(options.model).architectures or [""])[0])
        if encoder is not None:
            tokenizer = AutoTokenizer.from_pretrained(options.model)
            deeper = deepen_encoder(encoder.from_pretrained(options.model), options.layers)
        else:
            generator = load_generator(options.model, device="cpu", dtype="float32")
            tokenizer = generator.tokenizer
            if not isinstance(generator.model, T5ForConditionalGeneration):
                kind = type(generator.model).__name__
                parser.error(f"--model {options.model}: its generator is a {kind}, expected a T5")
            deeper = deepen_generator(generator.model, options.layers)
    except ValueError as error:
        parser.error(f"--layers: {error}")
    deeper.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    print(f"{options.output}: {options.layers} encoder layers")


if __name__ == "__main__":
    main()
