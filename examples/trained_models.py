"""Models as training saved them."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, DPRContextEncoder, DPRQuestionEncoder

from rag_core.generator import load_generator

_DPR_ENCODERS = {encoder.__name__: encoder for encoder in (DPRQuestionEncoder, DPRContextEncoder)}


def trained_folder(name: str, train: Path) -> Path:
    """Where lies what train.yaml names: among its outputs or, as `../out/average/reader`, beside them.

    Args:
      train: what `rag-beam run examples/train.yaml` wrote.
    """
    return train.parent / name.removeprefix("../out/") if name.startswith("../out/") else train / name


def load_trained_model(folder: str) -> tuple[Any, Any]:
    """A DPR encoder, a seq2seq model or that of a RAG checkpoint, in float32, with its tokenizer."""
    encoder = _DPR_ENCODERS.get((AutoConfig.from_pretrained(folder).architectures or [""])[0])
    if encoder is not None:
        return encoder.from_pretrained(folder).float(), AutoTokenizer.from_pretrained(folder)
    generator = load_generator(folder, device="cpu", dtype="float32")
    return generator.model, generator.tokenizer
