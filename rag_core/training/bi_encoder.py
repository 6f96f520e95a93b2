"""DPR's two encoders as they are trained: with gradients, dropout and a graph (Karpukhin et al. 2020, section 3)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    DPRContextEncoder,
    DPRQuestionEncoder,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rag_core.context import PassageText
from rag_core.encoders.loading import PASSAGE_ENCODER_KEY
from rag_core.encoders.pretrained import LoadSettings, load_model, load_tokenizer, usable_tokens
from rag_core.encoders.tokenization import Tokenize, tokenizing
from rag_core.model_files import model_fingerprint, resolve_device, resolve_model
from rag_core.padding import pad_rows


@dataclass(frozen=True, eq=False)
class _TrainedTower:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    tokenize: Tokenize

    def encode(self, first: Sequence[str], second: Sequence[str] | None) -> Tensor:
        ids, mask = pad_rows(self.tokenize(first, second), self.tokenizer.pad_token_id or 0)
        device = self.model.device
        # no token types, as in encoding: DPR trained with zeros
        output = self.model(input_ids=ids.to(device), attention_mask=mask.to(device))
        vectors: Tensor = output.pooler_output
        return vectors

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


class BiEncoder(nn.Module):
    """A question encoder and a passage encoder, in training mode."""

    def __init__(self, questions: _TrainedTower, passages: _TrainedTower):
        """Made by `load`."""
        super().__init__()
        self._questions, self._passages = questions, passages
        self.question_model, self.passage_model = questions.model, passages.model
        self.requires_grad_(True).train()

    @classmethod
    def load(
        cls,
        question_encoder: str,
        passage_encoder: str,
        *,
        device: str = "auto",
        max_tokens: int = 256,
        allow_pickle: bool = False,
    ) -> "BiEncoder":
        """Loads the two DPR encoders to start from, in float32.

        Args:
          question_encoder: folder or hub id of a DPRQuestionEncoder.
          passage_encoder: folder or hub id of a DPRContextEncoder.
          device: `auto`, `cpu`, `cuda` or `cuda:N`.
          max_tokens: of a question or passage, special tokens included.
          allow_pickle: whether weights may be unpickled, which runs code.

        Raises:
          UsageError: a folder holds something else, is incomplete, or an argument is wrong.
        """
        settings = LoadSettings(resolve_device(device), torch.float32, max_tokens, allow_pickle)
        towers = []
        for model_class, name in (
            (DPRQuestionEncoder, question_encoder),
            (DPRContextEncoder, passage_encoder),
        ):
            folder = resolve_model(name)
            model, tokenizer = load_model(model_class, folder, settings), load_tokenizer(folder)
            most = usable_tokens(max_tokens, tokenizer.model_max_length, model.config.max_position_embeddings)
            towers.append(_TrainedTower(model, tokenizer, tokenizing(tokenizer, most)))
        return cls(*towers)

    def encode_questions(self, questions: Sequence[str]) -> Tensor:
        """q(x) [N, D], float32, with a graph where gradients are enabled."""
        return self._questions.encode(questions, None)

    def encode_passages(self, passages: Sequence[PassageText]) -> Tensor:
        """d(z) [N, D], float32, with a graph where gradients are enabled."""
        return self._passages.encode(
            [passage.title for passage in passages], [passage.text for passage in passages]
        )

    def save(self, folder: Path) -> None:
        """Writes `question_encoder` and `passage_encoder` below `folder`, weights as safetensors.

        The question encoder records which passage encoder it belongs to, so that an index of another one
        is refused.
        """
        passages, questions = folder / "passage_encoder", folder / "question_encoder"
        self._passages.save(passages)
        self._questions.save(questions)
        config_path = questions / "config.json"
        config = json.loads(config_path.read_text()) | {PASSAGE_ENCODER_KEY: model_fingerprint(passages)}
        config_path.write_text(json.dumps(config, indent=2) + "\n")
