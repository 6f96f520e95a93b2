"""A RAG model as it is trained and saved: a question encoder, where there is one, and a generator."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    PreTrainedModel,
    RagConfig,
    RagSequenceForGeneration,
    RagTokenForGeneration,
    RagTokenizer,
)

from rag_core.encoders.dpr import load_question_model
from rag_core.encoders.loading import PASSAGE_ENCODER_KEY
from rag_core.encoders.pretrained import LoadSettings
from rag_core.generator import Generator, load_generator
from rag_core.model_files import resolve_device, resolve_model
from rag_core.training.bi_encoder import DprTower, dpr_tower
from rag_core.training.precision import Precision
from rag_core.training.rag_loss import ModelType

_RAG_CLASSES = {"rag_sequence": RagSequenceForGeneration, "rag_token": RagTokenForGeneration}


class RagModel:
    """What `train_rag` starts from and saves.

    Attributes:
      generator: in float32.
      question_tower: the question encoder; None where documents are given, or there are none.
    """

    def __init__(self, generator: Generator, question_tower: DprTower | None):
        """Made by `load`; both are trained until `freeze_question_encoder`."""
        self.generator, self.question_tower = generator, question_tower

    @classmethod
    def load(
        cls,
        model: str,
        question_encoder: str | None,
        *,
        device: str = "auto",
        max_input_tokens: int = 300,
        max_question_tokens: int = 256,
        precision: Precision = "float32",
        allow_pickle: bool = False,
    ) -> "RagModel":
        """Loads generator and question encoder in float32.

        Args:
          model: folder or hub id of a seq2seq model or of a RAG checkpoint (its generator).
          question_encoder: of a DPR question encoder or of a RAG checkpoint; None: without one.
          device: `auto`, `cpu`, `cuda` or `cuda:N`.
          max_input_tokens: of a context.
          max_question_tokens: of a question, for the question encoder.
          precision: of the question encoder's forward passes.
          allow_pickle: whether weights may be unpickled, which runs code.

        Raises:
          UsageError: a folder holds something else, is incomplete, or an argument is wrong.
        """
        generator = load_generator(
            model,
            device=device,
            dtype="float32",
            max_input_tokens=max_input_tokens,
            allow_pickle=allow_pickle,
        )
        tower = None
        if question_encoder is not None:
            settings = LoadSettings(resolve_device(device), torch.float32, max_question_tokens, allow_pickle)
            weights, tokenizer = load_question_model(resolve_model(question_encoder), settings)
            tower = dpr_tower(weights.requires_grad_(True), tokenizer, max_question_tokens, precision)
        return cls(generator, tower)

    def save(self, folder: Path, model_type: ModelType, n_docs: int, passage_encoder: str | None) -> None:
        """Writes a Hugging Face RAG checkpoint, or without a question encoder a seq2seq folder.

        Weights are safetensors; `transformers` and `rag-beam generate` load either.

        Args:
          n_docs: K of training, as the checkpoint's default.
          passage_encoder: fingerprint of the passage encoder that the question encoder belongs to, so that
            an index of another one is refused; None where it is not known.
        """
        tower, generator = self.question_tower, self.generator
        if tower is None:
            generator.model.save_pretrained(folder)
            generator.tokenizer.save_pretrained(folder)
            return
        config = RagConfig.from_question_encoder_generator_configs(
            tower.model.config,
            generator.model.config,
            n_docs=n_docs,
            retrieval_vector_size=_dimension(tower.model),
            title_sep=generator.contexts.format.title_sep,
            doc_sep=generator.contexts.format.doc_sep,
            prefix=generator.contexts.format.prefix,
            decoder_start_token_id=generator.prompt[0],
            bos_token_id=getattr(generator.model.config, "bos_token_id", None),  # T5 has none
            pad_token_id=generator.model.config.pad_token_id,
            eos_token_id=generator.end_token,
        )
        rag = _RAG_CLASSES[model_type](config=config, question_encoder=tower.model, generator=generator.model)
        rag.save_pretrained(folder)
        RagTokenizer(tower.tokenizer, generator.tokenizer).save_pretrained(folder)
        path = folder / "config.json"
        written = json.loads(path.read_text())
        for part in ("question_encoder", "generator"):
            written[part].pop("_name_or_path", None)  # where training started from: a path of this machine
        recorded: dict[str, Any] = {}
        if len(generator.prompt) > 1:  # transformers drops it from the config that it writes
            recorded["forced_bos_token_id"] = generator.prompt[1]
        if passage_encoder is not None:
            recorded[PASSAGE_ENCODER_KEY] = passage_encoder
        path.write_text(json.dumps(written | recorded, indent=2) + "\n")

    def freeze_question_encoder(self) -> None:
        """Leaves the question encoder as it is."""
        if self.question_tower is not None:
            self.question_tower.model.requires_grad_(False)

    def train(self, mode: bool = True) -> None:
        """Puts what is trained into training mode, or all into evaluation mode: no dropout."""
        self.generator.model.train(mode)
        if self.question_tower is not None:
            encoder = self.question_tower.model
            encoder.train(mode and any(parameter.requires_grad for parameter in encoder.parameters()))

    @property
    def module(self) -> nn.ModuleDict:
        """Generator and question encoder as one module."""
        parts: dict[str, nn.Module] = {"generator": self.generator.model}
        if self.question_tower is not None:
            parts["question_encoder"] = self.question_tower.model
        return nn.ModuleDict(parts)


def _dimension(encoder: PreTrainedModel) -> int:
    return int(encoder.config.projection_dim or encoder.config.hidden_size)
