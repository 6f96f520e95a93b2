"""Model folders through transformers: refused where transformers would make up what is missing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from rag_core.errors import UsageError, reason_of
from rag_core.model_files import check_weights, use_safetensors

_MIN_TOKENS = 8  # [CLS] title [SEP] text [SEP] with something left of both
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.bpe.codes")


@dataclass(frozen=True)
class LoadSettings:
    """Where and how a tower is loaded."""

    device: torch.device
    dtype: torch.dtype
    max_tokens: int
    allow_pickle: bool


def from_pretrained(loader: Any, folder: Path, **options: Any) -> Any:
    """`loader.from_pretrained(folder)`, never running code that comes with the folder.

    Raises:
      UsageError: it cannot be loaded.
    """
    try:
        return loader.from_pretrained(folder, trust_remote_code=False, **options)
    except Exception as error:  # OSError, ValueError, RuntimeError, SafetensorError …: by what is damaged
        raise UsageError(
            f"{folder}: {loader.__name__} cannot be loaded from it ({type(error).__name__}: {reason_of(error)}); fetch "
            "or save the model again"
        ) from error


def load_model(
    model_class: Any,
    folder: Path,
    settings: LoadSettings,
    *,
    ignore_missing: str | None = None,
    **options: Any,
) -> PreTrainedModel:
    """`model_class.from_pretrained` for inference: right dtype and device, no dropout, no gradients.

    Attention is transformers' default: scaled dot product attention wherever the model has it.

    Args:
      ignore_missing: weights with this in their name may be missing (they take no part in the vectors).
      options: further arguments of `from_pretrained`.

    Raises:
      UsageError: only pickled weights; weights that cannot be read; weights that are not there, which
        transformers would replace by random ones.
    """
    model, report = from_pretrained(
        model_class,
        folder,
        dtype=settings.dtype,
        use_safetensors=use_safetensors(folder, settings.allow_pickle),
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # told here, by name
        **options,
    )
    check_weights(folder, model, report, lambda name: not (ignore_missing and ignore_missing in name))
    return model.eval().requires_grad_(False).to(settings.device)


def load_tokenizer(folder: Path, subfolder: str = "", **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder.

    Raises:
      UsageError: no vocabulary is there (transformers would make one of the special tokens alone), or it
        cannot be read.
    """
    place = folder / subfolder
    if not any(file for pattern in _TOKENIZER_FILES for file in place.glob(pattern)):
        raise UsageError(f"{place}: holds no tokenizer; expected one of {', '.join(_TOKENIZER_FILES)}")
    return from_pretrained(AutoTokenizer, folder, subfolder=subfolder, **options)


def usable_tokens(asked: int, *limits: int | None) -> int:
    """The number of tokens to use: what is asked for, lowered to what the model and tokenizer can take.

    Raises:
      UsageError: fewer than 8 are asked for.
    """
    if asked < _MIN_TOKENS:
        raise UsageError(f"--max_tokens {asked}: expected at least {_MIN_TOKENS}, special tokens included")
    return min([asked, *(limit for limit in limits if limit is not None and limit > 0)])
