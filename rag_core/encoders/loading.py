"""From a MODEL option to an encoder: recognises what the folder holds and refuses what does not fit."""

from enum import StrEnum
from pathlib import Path

from rag_core.encoders import dpr, sentence_transformers
from rag_core.encoders.encoder import EncoderKind, PassageEncoder, QuestionEncoder, check_passage_template
from rag_core.encoders.pretrained import LoadSettings
from rag_core.errors import UsageError
from rag_core.model_files import (
    model_fingerprint,
    read_config,
    resolve_device,
    resolve_dtype,
    resolve_model,
)

PASSAGE_ENCODER_KEY = "passage_encoder_fingerprint"
"""Where in config.json our trainers record which passage encoder a question encoder belongs to."""


class _Content(StrEnum):
    """What a model folder can hold, in the words of an error message."""

    DPR_QUESTION_ENCODER = "a question encoder (DPRQuestionEncoder)"
    DPR_PASSAGE_ENCODER = "a passage encoder (DPRContextEncoder)"
    RAG_CHECKPOINT = "a RAG checkpoint"
    SENTENCE_TRANSFORMERS = "a sentence-transformers model"


def load_passage_encoder(
    model: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    max_tokens: int = 256,
    passage_template: str = "{title} {text}",
    allow_pickle: bool = False,
) -> PassageEncoder:
    """Loads what turns passages into vectors.

    Args:
      model: folder or hub id of a DPR passage encoder or a sentence-transformers model.
      device: `auto`, `cpu`, `cuda` or `cuda:N`.
      dtype: of weights and arithmetic: `auto`, `float32`, `bfloat16`, `float16`.
      max_tokens: a passage's tokens, special ones included; the model's own maximum where that is lower.
      passage_template: makes one text of `{title}` and `{text}`; DPR takes them as a pair instead.
      allow_pickle: whether weights may be unpickled, which runs code.

    Raises:
      UsageError: the folder holds something else, is incomplete, or an argument is wrong.
    """
    check_passage_template(passage_template)
    folder = resolve_model(model)
    settings = _load_settings(device, dtype, max_tokens, allow_pickle)
    content = _recognise(folder)
    if content is _Content.SENTENCE_TRANSFORMERS:
        loaded = sentence_transformers.load(folder, settings)
        return PassageEncoder(
            EncoderKind.SENTENCE_TRANSFORMERS,
            model_fingerprint(folder),
            loaded.tower,
            prompt=loaded.passage_prompt,
            template=passage_template,
        )
    if content is not _Content.DPR_PASSAGE_ENCODER:
        raise UsageError(
            f"{model}: holds {content} and no passage encoder; passages need the passage encoder that "
            "belongs to it, such as facebook/dpr-ctx_encoder-single-nq-base"
        )
    return PassageEncoder(
        EncoderKind.DPR, model_fingerprint(folder), dpr.load_passage_tower(folder, settings)
    )


def load_question_encoder(
    model: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    max_tokens: int = 256,
    allow_pickle: bool = False,
) -> QuestionEncoder:
    """Loads what turns questions into vectors; arguments as in `load_passage_encoder`.

    Args:
      model: folder or hub id of a DPR question encoder, a Hugging Face RAG checkpoint (its question
        encoder) or a sentence-transformers model.

    Raises:
      UsageError: the folder holds something else, is incomplete, or an argument is wrong.
    """
    folder = resolve_model(model)
    settings = _load_settings(device, dtype, max_tokens, allow_pickle)
    content = _recognise(folder)
    if content is _Content.DPR_PASSAGE_ENCODER:
        raise UsageError(
            f"{model}: holds {content}; questions need the question encoder that belongs to it, such as "
            "facebook/dpr-question_encoder-single-nq-base, or a RAG checkpoint"
        )
    fingerprint = model_fingerprint(folder)
    if content is _Content.SENTENCE_TRANSFORMERS:
        loaded = sentence_transformers.load(folder, settings)
        return QuestionEncoder(
            EncoderKind.SENTENCE_TRANSFORMERS,
            fingerprint,
            loaded.tower,
            prompt=loaded.question_prompt,
            passage_encoder_fingerprint=fingerprint,
        )
    return QuestionEncoder(
        EncoderKind.DPR,
        fingerprint,
        dpr.load_question_tower(folder, settings),
        passage_encoder_fingerprint=read_config(folder / "config.json").get(PASSAGE_ENCODER_KEY),
    )


def _load_settings(device: str, dtype: str, max_tokens: int, allow_pickle: bool) -> LoadSettings:
    resolved = resolve_device(device)
    return LoadSettings(resolved, resolve_dtype(dtype, resolved), max_tokens, allow_pickle)


def _recognise(folder: Path) -> _Content:
    if (folder / sentence_transformers.MODULES_FILE).is_file():
        return _Content.SENTENCE_TRANSFORMERS
    if not (folder / "config.json").is_file():
        raise _unknown(folder, "neither config.json nor modules.json")
    config = read_config(folder / "config.json")
    model_type = config.get("model_type")
    if model_type == "rag":
        return _Content.RAG_CHECKPOINT
    architectures = config.get("architectures") or []
    if "DPRQuestionEncoder" in architectures:
        return _Content.DPR_QUESTION_ENCODER
    if "DPRContextEncoder" in architectures:
        return _Content.DPR_PASSAGE_ENCODER
    raise _unknown(folder, f"a model of type {model_type} with architectures {architectures}")


def _unknown(folder: Path, found: str) -> UsageError:
    return UsageError(
        f"{folder}: holds {found}; accepted are a DPR question or passage encoder (DPRQuestionEncoder, "
        "DPRContextEncoder), a RAG checkpoint (model_type rag, for questions) and a sentence-transformers "
        "folder (modules.json)"
    )
