"""Generators: seq2seq models with what decoding needs to know about them, and how they are loaded."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RagSequenceForGeneration,
)

from rag_core.context import ContextFormat, ContextTokenizer
from rag_core.decoder import DecoderModel
from rag_core.errors import UsageError, reason_of
from rag_core.model_files import (
    check_weights,
    model_fingerprint,
    read_config,
    resolve_device,
    resolve_dtype,
    resolve_model,
    use_safetensors,
)
from rag_core.padding import pad_rows
from rag_core.row_positions import RowPositions
from rag_core.shared_attention import SHARED_ATTENTION


class Generator:
    """A seq2seq model in evaluation mode, its tokenizer, and the tokens that frame an answer.

    Attributes:
      model: any encoder-decoder of `transformers` with a language model head.
      prompt: what the decoder reads before the answer: the start token and, where the checkpoint forces
        a first token, that token, which has no probability of its own.
      end_token: ends an answer; its probability counts.
      decoder: the model as the decoders' states use it.
      contexts: turns a question and its passages into token ids.
      fingerprint: the content hash of the checkpoint.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        prompt: Sequence[int],
        end_token: int,
        context_format: ContextFormat | None = None,
        max_input_tokens: int = 300,
        fingerprint: str = "",
    ):
        """Takes the model over: puts it in evaluation mode and sets its attention function."""
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.prompt = tuple(prompt)
        self.end_token = end_token
        self.fingerprint = fingerprint
        self.contexts = ContextTokenizer(
            tokenizer, context_format or ContextFormat(), max_input_tokens, self.max_positions
        )
        shares_documents = model._can_set_attn_implementation()
        if shares_documents:
            model.set_attn_implementation(SHARED_ATTENTION)
        self.decoder = DecoderModel(model, shares_documents, RowPositions(model))

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    @property
    def max_positions(self) -> int | None:
        """How many tokens encoder and decoder can each read; None for relative positions."""
        return getattr(self.model.config, "max_position_embeddings", None)

    def check_target_length(self, tokens: int) -> None:
        """Checks that the decoder can read its prompt and `tokens` more.

        Raises:
          UsageError: it cannot.
        """
        if self.max_positions is not None and len(self.prompt) + tokens > self.max_positions:
            raise UsageError(
                f"--max_new_tokens {tokens}: the generator's decoder reads at most {self.max_positions} "
                f"tokens, {len(self.prompt)} of them its prompt"
            )

    def encode(self, contexts: Sequence[Sequence[int]], batch_tokens: int) -> list[Tensor]:
        """Encodes contexts (token ids), each once.

        Args:
          batch_tokens: bound on the tokens, padding included, of one encoder pass; contexts of similar length
            go together.

        Returns:
          The encoder states of each context, [its tokens, size].
        """
        states: list[Tensor] = [torch.empty(0)] * len(contexts)
        by_length = sorted(range(len(contexts)), key=lambda i: len(contexts[i]))
        while by_length:
            width = len(contexts[by_length[-1]])
            rows = by_length[-max(1, batch_tokens // width) :]
            del by_length[-len(rows) :]
            for row, hidden in zip(rows, self._encode([contexts[row] for row in rows]), strict=True):
                states[row] = hidden[: len(contexts[row])]
        return states

    @torch.inference_mode()
    def _encode(self, contexts: Sequence[Sequence[int]]) -> Tensor:
        """Encoder states of contexts, padded to the longest."""
        ids, mask = pad_rows(contexts, self.model.config.pad_token_id or 0)
        states: Tensor = self.model.get_encoder()(
            input_ids=ids.to(self.device), attention_mask=mask.to(self.device), return_dict=True
        ).last_hidden_state
        return states

    def decode(self, tokens: Sequence[int]) -> str:
        """An answer's text: special tokens skipped, stripped."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """The text of each token of an answer, the end token last."""
        return [str(self.tokenizer.decode([token])) for token in (*tokens, self.end_token)]


def load_generator(
    model: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    max_input_tokens: int = 300,
    allow_pickle: bool = False,
) -> Generator:
    """Loads a generator: a plain seq2seq checkpoint, or the generator of a Hugging Face RAG checkpoint.

    The checkpoint's own generation settings (its beams, penalties, lengths, bans) do not apply, apart
    from the tokens that frame an answer; a forced end token at the length limit is ignored.

    Args:
      model: local folder or hub id.
      device: auto, cpu, cuda or cuda:N.
      dtype: of weights and arithmetic: auto, float32, bfloat16 or float16.
      max_input_tokens: maximum length of a context.
      allow_pickle: read pickled weights where there are no safetensors.

    Raises:
      UsageError: no such model, not a seq2seq model, no safetensors, no fast tokenizer, or the tokens that
        frame an answer cannot be told.
    """
    folder = resolve_model(model)
    where = resolve_device(device)
    top = _read_if_there(folder / "config.json")
    if top is None:
        raise UsageError(f"{folder}: holds no config.json; give the folder of a seq2seq or RAG checkpoint")
    settings: dict[str, Any] = {
        "dtype": resolve_dtype(dtype, where),
        "use_safetensors": use_safetensors(folder, allow_pickle),
        "local_files_only": True,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # told by `check_weights`
    }
    is_rag = top.get("model_type") == "rag"
    try:
        model_class: Any = RagSequenceForGeneration if is_rag else AutoModelForSeq2SeqLM
        loaded, report = model_class.from_pretrained(folder, **settings)
        weights = loaded.generator if is_rag else loaded
        check_weights(folder, loaded, report, lambda name: "question_encoder" not in name)
        tokenizer = _load_tokenizer(folder / "generator_tokenizer" if is_rag else folder, weights.config)
    except UsageError:
        raise
    except Exception as error:  # OSError, ValueError, RuntimeError, SafetensorError …: by what is damaged
        raise UsageError(
            f"{folder}: not a generator that transformers can load (model_type {top.get('model_type')}); expected "
            "a seq2seq checkpoint such as BART or T5, or a RAG checkpoint with generator_tokenizer/ "
            f"({reason_of(error)})"
        ) from error
    nested = (top.get("generator") or {}) if is_rag else {}
    generation = _read_if_there(folder / "generation_config.json") or {}
    prompt, end_token = _framing_tokens(folder, [generation, top, nested], weights.config.to_dict())
    return Generator(
        weights.to(where),
        tokenizer,
        prompt=prompt,
        end_token=end_token,
        context_format=_context_format(top, nested),
        max_input_tokens=max_input_tokens,
        fingerprint=model_fingerprint(folder),
    )


def _load_tokenizer(folder: Path, config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(folder, config=config) if folder.is_dir() else None
    # without its files transformers makes a tokenizer of special tokens only
    if tokenizer is None or not any(
        (folder / name).is_file() for name in tokenizer.vocab_files_names.values()
    ):
        raise UsageError(f"{folder}: holds no tokenizer; add the tokenizer.json of the checkpoint")
    if not tokenizer.is_fast:
        raise UsageError(f"{folder}: its tokenizer gives no character offsets; add a tokenizer.json")
    return tokenizer


def _framing_tokens(
    folder: Path, files: Sequence[dict[str, Any]], loaded: dict[str, Any]
) -> tuple[list[int], int]:
    """The decoder's prompt and the end token: what the files say, in their order, then the loaded config.

    The forced first token is taken from the files only: `transformers` may have dropped it from the loaded
    config, and where none is found there is none.
    """
    configs = [*files, loaded]
    start = _first_token(folder, "decoder_start_token_id", configs)
    start = _first_token(folder, "bos_token_id", configs) if start is None else start
    end = _first_token(folder, "eos_token_id", configs)
    if start is None or end is None:
        raise UsageError(
            f"{folder}: names no decoder_start_token_id or no eos_token_id; add them to generation_config.json"
        )
    forced = _first_token(folder, "forced_bos_token_id", files)
    return [start] if forced is None else [start, forced], end


def _context_format(top: dict[str, Any], nested: dict[str, Any]) -> ContextFormat:
    """A RAG config's separators; the prefix is the generator's own, as in transformers' retriever."""
    default = ContextFormat()
    return ContextFormat(
        prefix=nested.get("prefix") or top.get("prefix") or default.prefix,
        title_sep=_or_default(top.get("title_sep"), default.title_sep),
        doc_sep=_or_default(top.get("doc_sep"), default.doc_sep),
    )


def _or_default(value: str | None, default: str) -> str:
    return default if value is None else value


def _first_token(folder: Path, name: str, configs: Iterable[dict[str, Any]]) -> int | None:
    """The first config that gives this token decides."""
    for config in configs:
        value = config.get(name)
        if isinstance(value, list):
            if len(value) != 1:
                raise UsageError(
                    f"{folder}: {name} is {value}; a single token is expected, edit generation_config.json"
                )
            value = value[0]
        if value is not None:
            return int(value)
    return None


def _read_if_there(path: Path) -> dict[str, Any] | None:
    return read_config(path) if path.is_file() else None
