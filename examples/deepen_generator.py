"""Deepens a trained generator: encoder layers that change nothing yet, to be trained further.

Run `python -m examples.deepen_generator --model trained --layers 6 --output deeper`.
"""

import argparse
import copy
import re
from collections.abc import Sequence
from pathlib import Path

from transformers import T5ForConditionalGeneration
from transformers.utils import logging

from rag_core.generator import load_generator

_LAYER = re.compile(r"encoder\.block\.(\d+)\.")
# what a layer adds to the stream that passes through it comes from these
_ADDING = ("SelfAttention.o.weight", "DenseReluDense.wo.weight")


def deepen(model: T5ForConditionalGeneration, layers: int) -> T5ForConditionalGeneration:
    """The same function with more layers in its encoder.

    A new layer follows the one whose weights it copies, but for those by which it would add something: they are
    zero. So the function is kept, as in Net2Net (Chen et al. 2016), and layers are stacked as in Gong et al. 2019.

    Args:
      layers: that the encoder is to have; the new ones are spread evenly over the old ones.

    Raises:
      ValueError: it has more layers already.
    """
    before = model.config.num_layers
    if layers < before:
        raise ValueError(f"{layers} layers; the encoder has {before} already, none is taken away")
    copied = [position * before // layers for position in range(layers)]
    config = copy.deepcopy(model.config)
    config.num_layers = layers
    deeper = T5ForConditionalGeneration(config)
    weights = model.state_dict()
    for name, weight in deeper.state_dict().items():
        layer = _LAYER.match(name)
        position = int(layer[1]) if layer else 0
        weight.copy_(weights[_LAYER.sub(f"encoder.block.{copied[position]}.", name)])
        if position and copied[position] == copied[position - 1] and name.endswith(_ADDING):
            weight.zero_()
    return deeper.train(model.training)


def main(argv: Sequence[str] | None = None) -> None:
    """Saves the deeper generator with its tokenizer."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.deepen_generator", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--model", required=True, help="a T5, or a RAG checkpoint with one")
    parser.add_argument("--layers", type=int, required=True, help="that its encoder is to have")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    options = parser.parse_args(argv)
    logging.disable_progress_bar()
    generator = load_generator(options.model, device="cpu", dtype="float32")
    if not isinstance(generator.model, T5ForConditionalGeneration):
        parser.error(
            f"--model {options.model}: its generator is a {type(generator.model).__name__}, expected a T5"
        )
    try:
        deeper = deepen(generator.model, options.layers)
    except ValueError as error:
        parser.error(f"--layers: {error}")
    deeper.save_pretrained(options.output)
    generator.tokenizer.save_pretrained(options.output)
    print(f"{options.output}: {options.layers} encoder layers, {generator.model.config.num_layers} before")


if __name__ == "__main__":
    main()
