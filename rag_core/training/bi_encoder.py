"""Question and passage encoder as they are trained: with gradients, dropout and a graph.

Either DPR's two towers (Karpukhin et al. 2020, section 3) or one sentence-transformers tower for both sides.
"""

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    DPRConfig,
    DPRContextEncoder,
    DPRQuestionEncoder,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rag_core.context import PassageText
from rag_core.encoders import sentence_transformers
from rag_core.encoders.dpr import load_question_model
from rag_core.encoders.encoder import check_passage_template
from rag_core.encoders.loading import PASSAGE_ENCODER_KEY
from rag_core.encoders.padded_model import PaddedModel
from rag_core.encoders.pretrained import LoadSettings, load_model, load_tokenizer, usable_tokens
from rag_core.encoders.sentence_transformers import SentenceTransformerParts
from rag_core.encoders.tokenization import Tokenize, tokenizing
from rag_core.errors import UsageError
from rag_core.marginalize import float32_or_better
from rag_core.model_files import model_fingerprint, resolve_device, resolve_model
from rag_core.padding import pad_rows
from rag_core.training.precision import Precision, choose_attention, forward_precision

_ROWS_OF_LIKE_LENGTH = 64
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.pt", "*.pth")
_OTHER_FRAMEWORKS_AND_TEXTS = ("*.h5", "*.msgpack", "*.ot", "onnx", "openvino", "*.md", "*.py", ".*")


class BiEncoder(nn.Module, ABC):
    """A question encoder and a passage encoder, in training mode.

    Weights are float32. `forward_precision` computes the transformers' passes; vectors are float32.
    """

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @abstractmethod
    def encode_questions(self, questions: Sequence[str]) -> Tensor:
        """q(x) [N, D], float32, with a graph where gradients are enabled."""

    @abstractmethod
    def encode_passages(self, passages: Sequence[PassageText]) -> Tensor:
        """d(z) [N, D], float32, with a graph where gradients are enabled."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes the model folder or folders below `folder`, weights as safetensors."""

    @staticmethod
    def load(
        question_encoder: str,
        passage_encoder: str,
        *,
        device: str | torch.device = "auto",
        max_tokens: int = 256,
        precision: Precision = "float32",
        allow_pickle: bool = False,
    ) -> "TwoTowers":
        """Loads the two DPR encoders to start from.

        Args:
          question_encoder: folder or hub id of a DPRQuestionEncoder, or of a RAG checkpoint with one.
          passage_encoder: folder or hub id of a DPRContextEncoder.
          device: a device, or `auto`, `cpu`, `cuda` or `cuda:N`.
          max_tokens: of a question or passage, special tokens included.
          precision: of forward passes.
          allow_pickle: whether weights may be unpickled, which runs code.

        Raises:
          UsageError: a folder holds something else, is incomplete, or an argument is wrong.
        """
        settings = _load_settings(device, max_tokens, allow_pickle)
        questions, tokenizer = load_question_model(resolve_model(question_encoder), settings)
        question_tower = dpr_tower(_of_its_own(questions), tokenizer, max_tokens, precision)
        folder = resolve_model(passage_encoder)
        passages, tokenizer = load_model(DPRContextEncoder, folder, settings), load_tokenizer(folder)
        return TwoTowers(question_tower, dpr_tower(passages, tokenizer, max_tokens, precision))

    @staticmethod
    def load_one_tower(
        encoder: str,
        *,
        device: str | torch.device = "auto",
        max_tokens: int = 256,
        passage_template: str = "{title} {text}",
        precision: Precision = "float32",
        allow_pickle: bool = False,
    ) -> "OneTower":
        """Loads the sentence-transformers folder to start from; other arguments as in `load`.

        Args:
          encoder: folder or hub id.
          passage_template: makes one text of a passage, as in encoding.

        Raises:
          UsageError: as `load`.
        """
        check_passage_template(passage_template)
        folder = resolve_model(encoder)
        if not (folder / sentence_transformers.MODULES_FILE).is_file():
            raise UsageError(
                f"--encoder {encoder}: holds no {sentence_transformers.MODULES_FILE}; expected a "
                "sentence-transformers folder. DPR's two towers are given as --question_encoder and "
                "--passage_encoder"
            )
        with torch.random.fork_rng():
            torch.manual_seed(0)  # a pooler that the folder lacks is made up, and saved: always the same
            parts = sentence_transformers.load_parts(folder, _load_settings(device, max_tokens, allow_pickle))
        return OneTower(folder, parts, passage_template, precision)


@dataclass(frozen=True, eq=False)
class DprTower:
    """One of DPR's encoders, as it is trained; made by `dpr_tower`."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    tokenize: Tokenize
    precision: Precision

    def encode(self, first: Sequence[str], second: Sequence[str] | None) -> Tensor:
        """Vectors [N, D], float32, of texts or of pairs of them, with a graph where gradients are enabled."""
        return encode_by_length(self._pooled, self.tokenize(first, second))

    def _pooled(self, rows: Sequence[np.ndarray]) -> Tensor:
        ids, mask = pad_rows(rows, self.tokenizer.pad_token_id or 0)
        device = self.model.device
        with forward_precision(self.precision, device):
            # no token types, as in encoding: DPR trained with zeros
            output = self.model(input_ids=ids.to(device), attention_mask=mask.to(device))
        vectors: Tensor = float32_or_better(output.pooler_output)
        return vectors

    def save(self, folder: Path) -> None:
        """Writes model and tokenizer."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def dpr_tower(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    precision: Precision = "float32",
) -> DprTower:
    """The tower of a DPR encoder that was loaded in float32; arguments as in `BiEncoder.load`.

    Raises:
      UsageError: `max_tokens` is too low.
    """
    choose_attention(model, precision)
    most = usable_tokens(max_tokens, tokenizer.model_max_length, model.config.max_position_embeddings)
    return DprTower(model, tokenizer, tokenizing(tokenizer, most), precision)


class TwoTowers(BiEncoder):
    """DPR's, saved as `question_encoder` and `passage_encoder`."""

    def __init__(self, questions: DprTower, passages: DprTower):
        """Made by `BiEncoder.load`."""
        super().__init__()
        self._questions, self._passages = questions, passages
        self.question_model, self.passage_model = questions.model, passages.model
        self.requires_grad_(True).train()

    def encode_questions(self, questions: Sequence[str]) -> Tensor:
        return self._questions.encode(questions, None)

    def encode_passages(self, passages: Sequence[PassageText]) -> Tensor:
        return self._passages.encode(
            [passage.title for passage in passages], [passage.text for passage in passages]
        )

    def save(self, folder: Path) -> None:
        """Writes both; the question encoder records which passage encoder it belongs to.

        So an index of another passage encoder is refused.
        """
        passages, questions = folder / "passage_encoder", folder / "question_encoder"
        self._passages.save(passages)
        self._questions.save(questions)
        config_path = questions / "config.json"
        config = json.loads(config_path.read_text()) | {PASSAGE_ENCODER_KEY: model_fingerprint(passages)}
        config_path.write_text(json.dumps(config, indent=2) + "\n")


class OneTower(BiEncoder):
    """A sentence-transformers model for questions and passages, saved as `encoder`.

    Its pooling, prompts, maximum length and normalisation are honoured as in encoding. The transformer is
    trained; Dense layers after the pooling stay as they are.
    """

    def __init__(self, start: Path, parts: SentenceTransformerParts, template: str, precision: Precision):
        """Made by `BiEncoder.load_one_tower`."""
        super().__init__()
        self.model = parts.model
        self._start, self._parts, self._template, self._precision = start, parts, template, precision
        choose_attention(parts.model, precision)
        self._tokenize = tokenizing(parts.tokenizer, parts.max_tokens)
        self._pooled = PaddedModel(parts.model, parts.tokenizer.pad_token_id or 0, parts.pooling)
        self.requires_grad_(True).train()

    def encode_questions(self, questions: Sequence[str]) -> Tensor:
        return self._encode([self._parts.question_prompt + question for question in questions])

    def encode_passages(self, passages: Sequence[PassageText]) -> Tensor:
        return self._encode(
            [
                self._parts.passage_prompt
                + self._template.format(title=passage.title, text=passage.text).strip()
                for passage in passages
            ]
        )

    def save(self, folder: Path) -> None:
        """Writes a sentence-transformers folder: the one that training started from, with other weights."""
        encoder = folder / "encoder"
        transformer = self._parts.transformer_folder

        def left_out(place: str, names: list[str]) -> set[str]:
            replaced = _WEIGHTS if Path(place) == transformer else ()
            return shutil.ignore_patterns(*replaced, *_OTHER_FRAMEWORKS_AND_TEXTS)(place, names)

        shutil.copytree(self._start, encoder, ignore=left_out)
        self.model.save_pretrained(encoder / transformer.relative_to(self._start))

    def _encode(self, texts: Sequence[str]) -> Tensor:
        with forward_precision(self._precision, self.device):
            vectors = encode_by_length(self._pooled, self._tokenize(texts, None))
        for layer in self._parts.layers:
            vectors = layer(vectors)
        return vectors


def encode_by_length(encode: Callable[[Sequence[np.ndarray]], Tensor], rows: Sequence[np.ndarray]) -> Tensor:
    """Vectors [N, D] of token ids, in their order; texts of like length are encoded, and padded, together.

    Args:
      encode: some rows to their vectors.
    """
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    parts = [
        encode([rows[number] for number in order[begin : begin + _ROWS_OF_LIKE_LENGTH]])
        for begin in range(0, len(order), _ROWS_OF_LIKE_LENGTH)
    ]
    return torch.cat(parts)[torch.tensor(order).argsort().to(parts[0].device)]


def _load_settings(device: str | torch.device, max_tokens: int, allow_pickle: bool) -> LoadSettings:
    resolved = resolve_device(device) if isinstance(device, str) else device
    return LoadSettings(resolved, torch.float32, max_tokens, allow_pickle)


def _of_its_own(question_encoder: PreTrainedModel) -> PreTrainedModel:
    """The question encoder, to be saved without the RAG checkpoint that it may have been read from.

    `save_pretrained` gives weights back the names that they had there.
    """
    if type(question_encoder) is DPRQuestionEncoder:
        return question_encoder
    config = question_encoder.config
    assert isinstance(config, DPRConfig)  # of another kind it is not loaded
    alone = DPRQuestionEncoder(config)
    alone.load_state_dict(question_encoder.state_dict())
    return alone.eval().requires_grad_(False).to(question_encoder.device)
