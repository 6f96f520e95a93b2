"""Sentence-transformers folders, read as their layout is, without that package.

`modules.json` lists a chain: a Transformer, a Pooling, then any number of Dense and Normalize. The
folder's maximum length, lower-casing and prompts are honoured. What is not listed here is refused, since a
module left out would silently give other vectors.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as NormalizerSequence
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rag_core.encoders.packed_bert import PackedBert, is_packable
from rag_core.encoders.padded_model import PaddedModel
from rag_core.encoders.pooling import Pooling
from rag_core.encoders.pretrained import (
    LoadSettings,
    from_pretrained,
    load_model,
    load_tokenizer,
    usable_tokens,
)
from rag_core.encoders.tokenization import tokenizing
from rag_core.encoders.tower import Layer, Tower
from rag_core.errors import UsageError, reason_of
from rag_core.model_files import inside, read_config, read_json, use_safetensors

MODULES_FILE = "modules.json"

_PROMPTS_FILE = "config_sentence_transformers.json"
_OWN_TYPES = "sentence_transformers."
_PASSAGE_PROMPTS = ("document", "passage", "corpus")  # in this order, as its encode_document does
_POOLING_FLAGS = {"cls": "cls_token", "mean": "mean_tokens"}  # pooling_mode_… of folders before version 6
_ENCODER_DECODERS = ("t5", "mt5", "umt5")  # of which the encoder alone is used
_ACTIVATIONS: dict[str, Layer] = {
    "Identity": lambda vectors: vectors,
    "Tanh": torch.tanh,
    "ReLU": torch.relu,
    "GELU": functional.gelu,
}


@dataclass(frozen=True)
class SentenceTransformer:
    """One tower for questions and passages, and the prompt before each (empty for none)."""

    tower: Tower
    question_prompt: str
    passage_prompt: str


@dataclass(frozen=True, eq=False)
class SentenceTransformerParts:
    """What such a folder is made of.

    Attributes:
      transformer_folder: holds the transformer's own files; the folder itself, or one below it.
      layers: applied to the pooled vectors, in turn.
      dimension: of the vectors.
      max_tokens: special tokens included.
    """

    transformer_folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pooling: Pooling
    layers: list[Layer]
    dimension: int
    max_tokens: int
    question_prompt: str
    passage_prompt: str


@dataclass(frozen=True)
class _Module:
    name: str  # the last part of its type: the packages before it changed between versions
    folder: Path


def load(folder: Path, settings: LoadSettings) -> SentenceTransformer:
    """Loads a sentence-transformers folder to encode with.

    Raises:
      UsageError: a module, pooling or option that would not be honoured; damaged or missing files.
    """
    parts = load_parts(folder, settings)
    model, tokenizer = parts.model, parts.tokenizer
    pooled = (
        PackedBert(model, parts.pooling)
        if is_packable(model)
        else PaddedModel(model, tokenizer.pad_token_id or 0, parts.pooling)
    )
    tower = Tower(
        tokenizing(tokenizer, parts.max_tokens), pooled, parts.layers, parts.dimension, parts.max_tokens
    )
    return SentenceTransformer(tower, parts.question_prompt, parts.passage_prompt)


def load_parts(folder: Path, settings: LoadSettings) -> SentenceTransformerParts:
    """Loads what a sentence-transformers folder is made of.

    Raises:
      UsageError: as `load`.
    """
    transformer, pooling_module, *others = _read_modules(folder)
    question_prompt, passage_prompt = _read_prompts(folder)
    pooling = _read_pooling(pooling_module.folder, has_prompt=bool(question_prompt or passage_prompt))
    options = _read_transformer_options(transformer.folder)

    config = from_pretrained(AutoConfig, transformer.folder)
    model = load_model(
        AutoModelForTextEncoding if config.model_type in _ENCODER_DECODERS else AutoModel,
        transformer.folder,
        settings,
        ignore_missing="pooler.",  # BERT's own pooler, which many folders leave out; Pooling stands for it
    )
    tokenizer = load_tokenizer(transformer.folder)
    if options.get("do_lower_case"):
        _lower_case(tokenizer)

    dimension = config.hidden_size
    layers: list[Layer] = []
    for module in others:
        if module.name == "Normalize":
            layers.append(functional.normalize)
        else:
            dense = _load_dense(module.folder, dimension, settings)
            layers.append(dense)
            dimension = dense.weight.shape[0]
    max_tokens = usable_tokens(
        settings.max_tokens,
        options.get("max_seq_length") or tokenizer.model_max_length,
        getattr(config, "max_position_embeddings", None),
    )
    return SentenceTransformerParts(
        transformer.folder,
        model,
        tokenizer,
        pooling,
        layers,
        dimension,
        max_tokens,
        question_prompt,
        passage_prompt,
    )


def is_normalised(folder: Path) -> bool:
    """Whether a sentence-transformers folder's vectors have the length 1.

    Raises:
      UsageError: its modules cannot be read, or are not supported.
    """
    return _read_modules(folder)[-1].name == "Normalize"


@dataclass(frozen=True, eq=False)
class _Dense:
    """activation(x Wᵀ + b); weight [D', D] and bias [D'] in float32."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    activation: Layer

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.activation(functional.linear(vectors, self.weight, self.bias))


def _read_modules(folder: Path) -> list[_Module]:
    modules = []
    entries = read_json(folder / MODULES_FILE)
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("type"), str) and isinstance(entry.get("path"), str)
        for entry in entries
    ):
        raise UsageError(f"{folder / MODULES_FILE}: expected a list of modules with 'type' and 'path'")
    for entry in entries:
        kind = entry["type"]
        # a type of another package is code that comes with the folder, whatever its name
        name = kind.rsplit(".", 1)[-1] if kind.startswith(_OWN_TYPES) else kind
        modules.append(_Module(name, inside(folder, entry["path"], folder / MODULES_FILE)))
    names = [module.name for module in modules]
    if names[:2] != ["Transformer", "Pooling"] or not set(names[2:]) <= {"Dense", "Normalize"}:
        raise UsageError(
            f"{folder / MODULES_FILE}: modules {', '.join(names)}; supported are Transformer, Pooling and "
            "after them Dense and Normalize"
        )
    return modules


def _read_pooling(folder: Path, has_prompt: bool) -> Pooling:
    path = folder / "config.json"
    config = read_config(path)
    modes = config.get("pooling_mode")
    if modes is None:
        flags = [
            key.removeprefix("pooling_mode_")
            for key in config
            if key.startswith("pooling_mode_") and config[key]
        ]
        names = {flag: mode for mode, flag in _POOLING_FLAGS.items()}
        modes = [names.get(flag, flag) for flag in flags] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in _POOLING_FLAGS:
        raise UsageError(
            f"{path}: pooling {' + '.join(modes)}; supported is one of {', '.join(_POOLING_FLAGS)}"
        )
    if has_prompt and not config.get("include_prompt", True):
        raise UsageError(
            f"{path}: include_prompt is false, pooling without the prompt's tokens is not supported"
        )
    return Pooling(modes[0])


def _read_prompts(folder: Path) -> tuple[str, str]:
    """Prompts of questions and of passages, as its encode_query and encode_document choose them.

    Neither falls back to `default_prompt_name`. A prompt that is empty counts as none: the package writes
    an empty `document` on saving, which shall not hide a model's `passage`.
    """
    path = folder / _PROMPTS_FILE
    prompts: dict[str, str | None] = (read_config(path).get("prompts") or {}) if path.is_file() else {}
    passage = next((prompts[name] for name in _PASSAGE_PROMPTS if prompts.get(name)), None)
    return prompts.get("query") or "", passage or ""


def _read_transformer_options(folder: Path) -> dict[str, Any]:
    """`max_seq_length` and `do_lower_case`; the file is named for the architecture in old folders."""
    path = next(iter(sorted(folder.glob("sentence_*_config.json"))), None)
    if path is None:
        return {}
    options = read_config(path)
    text_only = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
    if (
        options.get("transformer_task", "feature-extraction") != "feature-extraction"
        or options.get("modality_config", text_only) != text_only
    ):
        raise UsageError(f"{path}: supported are text encoders whose last hidden states are pooled")
    return options


def _lower_case(tokenizer: PreTrainedTokenizerBase) -> None:
    backend = tokenizer.backend_tokenizer
    backend.normalizer = NormalizerSequence(
        [Lowercase(), *([backend.normalizer] if backend.normalizer is not None else [])]
    )


def _load_dense(folder: Path, dimension: int, settings: LoadSettings) -> _Dense:
    path = folder / "config.json"
    config = read_config(path)
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh").rsplit(".", 1)[-1]
    if activation not in _ACTIVATIONS:
        raise UsageError(f"{path}: activation {activation}; supported are {', '.join(_ACTIVATIONS)}")
    if (
        config.get("use_residual")
        or config.get("module_input_name", "sentence_embedding") != "sentence_embedding"
    ):
        raise UsageError(f"{path}: supported is a Dense layer of the pooled vector, without a residual")
    if config["in_features"] != dimension:
        raise UsageError(
            f"{path}: in_features {config['in_features']}, but the vectors before it have {dimension}"
        )
    is_safe = use_safetensors(folder, settings.allow_pickle)
    try:
        if is_safe:
            weights = load_file(folder / "model.safetensors")
        else:
            weights = torch.load(folder / "pytorch_model.bin", weights_only=True, map_location="cpu")
        placed = {name: tensor.to(settings.device, torch.float32) for name, tensor in weights.items()}
        return _Dense(placed["linear.weight"], placed.get("linear.bias"), _ACTIVATIONS[activation])
    except Exception as error:  # SafetensorError, UnpicklingError, KeyError …: by what is damaged
        raise UsageError(
            f"{folder}: the weights of a Dense layer cannot be loaded from it ({type(error).__name__}: "
            f"{reason_of(error)})"
        ) from error
