"""DPR's two towers (Karpukhin et al. 2020, section 3.1), alone or inside a Hugging Face RAG checkpoint.

A vector is the last hidden state of the first token (`[CLS]`), projected where the checkpoint has a
projection. Nothing is normalised: scores are inner products.
"""

from pathlib import Path
from typing import Any

from transformers import (
    DPRConfig,
    DPRContextEncoder,
    DPRQuestionEncoder,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RagConfig,
)

from rag_core.encoders.packed_bert import PackedBert
from rag_core.encoders.pooling import Pooling
from rag_core.encoders.pretrained import (
    LoadSettings,
    from_pretrained,
    load_model,
    load_tokenizer,
    usable_tokens,
)
from rag_core.encoders.tokenization import tokenizing
from rag_core.encoders.tower import Tower
from rag_core.errors import UsageError
from rag_core.model_files import read_config

RAG_QUESTION_TOKENIZER = "question_encoder_tokenizer"


class _QuestionEncoderInRag(DPRQuestionEncoder):
    """Reads its own weights out of a RAG checkpoint and leaves the generator's unread."""

    _keys_to_ignore_on_load_unexpected = [r"generator\."]  # noqa: RUF012 - declared so by the base class


def load_passage_tower(folder: Path, settings: LoadSettings) -> Tower:
    """The tower of a DPRContextEncoder folder."""
    return _tower(load_model(DPRContextEncoder, folder, settings), load_tokenizer(folder), settings)


def load_question_tower(folder: Path, settings: LoadSettings) -> Tower:
    """The tower of a DPRQuestionEncoder folder, or of the question encoder in a Hugging Face RAG checkpoint."""
    return _tower(*load_question_model(folder, settings), settings)


def load_question_model(
    folder: Path, settings: LoadSettings
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A question encoder with its own tokenizer, alone or inside a Hugging Face RAG checkpoint.

    Raises:
      UsageError: the folder holds neither, or the checkpoint's question encoder is not DPR's.
    """
    if read_config(folder / "config.json").get("model_type") != "rag":
        return load_model(DPRQuestionEncoder, folder, settings), load_tokenizer(folder)
    config = from_pretrained(RagConfig, folder).question_encoder
    if not isinstance(config, DPRConfig):
        raise UsageError(
            f"{folder}: its question encoder is of type {config.model_type}; expected dpr, as "
            "facebook/rag-sequence-nq has it"
        )
    model = load_model(
        _QuestionEncoderInRag,
        folder,
        settings,
        config=config,
        # RagModel names the tower question_encoder, its generation classes rag.question_encoder
        key_mapping={r"^(rag\.)?question_encoder\.question_encoder\.": "question_encoder."},
    )
    return model, load_tokenizer(folder, RAG_QUESTION_TOKENIZER, config=config)


def _tower(model: Any, tokenizer: Any, settings: LoadSettings) -> Tower:
    config = model.config
    encoder = model.ctx_encoder if isinstance(model, DPRContextEncoder) else model.question_encoder
    max_tokens = usable_tokens(
        settings.max_tokens, tokenizer.model_max_length, config.max_position_embeddings
    )
    return Tower(
        tokenize=tokenizing(tokenizer, max_tokens),
        model=PackedBert(encoder.bert_model, Pooling.FIRST_TOKEN),
        layers=[encoder.encode_proj.float()] if config.projection_dim else [],
        dimension=config.projection_dim or config.hidden_size,
        max_tokens=max_tokens,
    )
