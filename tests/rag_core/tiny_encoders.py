"""Tiny random encoders on disk, in the layouts that real ones have; nothing is downloaded.

Weights are drawn wide (standard deviation 0.3), so that different texts get clearly different vectors.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    BartConfig,
    BertConfig,
    BertModel,
    BertTokenizer,
    DPRConfig,
    DPRContextEncoder,
    DPRQuestionEncoder,
    PreTrainedModel,
    RagConfig,
    RagSequenceForGeneration,
)

SENTENCES = (
    "Paris is the capital of France and lies on the river Seine.",
    "The capital of Germany is Berlin, a city of museums.",
    "Gold is a chemical element with the symbol Au and atomic number 79.",
    "Who was the first president of the United States of America?",
    "Mount Everest is the highest mountain above sea level.",
    "The novel was written in 1851 and tells of a white whale.",
)
_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ.,?!:/-'\"()"
_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}


def tiny_tokenizer(*, lower_case: bool = True) -> BertTokenizer:
    """WordPiece over the sentences' words and single characters, so that hardly any word is unknown."""
    words = {
        word.strip(".,?")
        for sentence in SENTENCES
        for word in (sentence.lower() if lower_case else sentence).split()
    }
    pieces = [*_SPECIAL_TOKENS, *_CHARACTERS, *(f"##{character}" for character in _CHARACTERS)]
    vocabulary = dict.fromkeys([*pieces, *sorted(words)])
    return BertTokenizer(
        vocab={piece: number for number, piece in enumerate(vocabulary)},
        do_lower_case=lower_case,
        model_max_length=512,
    )


def write_dpr_question_encoder(folder: Path, *, seed: int = 1, projection_dim: int = 0) -> Path:
    """A DPRQuestionEncoder folder, as facebook/dpr-question_encoder-single-nq-base is laid out."""
    _save(DPRQuestionEncoder, _dpr_config(projection_dim), folder, seed)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def write_dpr_passage_encoder(folder: Path, *, seed: int = 2, projection_dim: int = 0) -> Path:
    """A DPRContextEncoder folder, as facebook/dpr-ctx_encoder-single-nq-base is laid out."""
    _save(DPRContextEncoder, _dpr_config(projection_dim), folder, seed)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def write_rag_checkpoint(
    folder: Path, model_class: type[PreTrainedModel] = RagSequenceForGeneration, *, seed: int = 3
) -> Path:
    """A RAG checkpoint, DPR and BART; transformers' RagModel names its weights otherwise."""
    tokenizer = tiny_tokenizer()
    bart = BartConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=64,
    )
    _save(model_class, RagConfig.from_question_encoder_generator_configs(_dpr_config(0), bart), folder, seed)
    tokenizer.save_pretrained(folder / "question_encoder_tokenizer")
    tokenizer.save_pretrained(folder / "generator_tokenizer")
    return folder


def write_sentence_transformer(
    folder: Path,
    *,
    seed: int = 4,
    pooling: dict[str, object] | None = None,
    normalize: bool = True,
    dense_dimension: int | None = None,
    prompts: dict[str, str] | None = None,
    max_seq_length: int | None = 64,
    lower_case_tokenizer: bool = True,
    do_lower_case: bool = False,
    transformer_path: str = "",
    types: str = "sentence_transformers.models.",
) -> Path:
    """A sentence-transformers folder, its JSON files written by hand.

    Args:
      pooling: of 1_Pooling/config.json; mean pooling in the layout before version 6 by default.
      dense_dimension: adds a Dense layer with tanh of that output size.
      transformer_path: `""` as all-MiniLM-L6-v2 has it, or `0_Transformer` as older folders have.
      types: what precedes `Transformer`, `Pooling` and the others in modules.json.
    """
    transformer = folder / transformer_path
    tokenizer = tiny_tokenizer(lower_case=lower_case_tokenizer)
    _save(BertModel, BertConfig(vocab_size=len(tokenizer), **_SIZES), transformer, seed)
    tokenizer.save_pretrained(transformer)
    write_json(
        transformer / "sentence_bert_config.json",
        {"max_seq_length": max_seq_length, "do_lower_case": do_lower_case},
    )
    modules = [(transformer_path, "Transformer"), ("1_Pooling", "Pooling")]
    write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": _SIZES["hidden_size"],
            **(pooling or {"pooling_mode_mean_tokens": True}),
        },
    )
    if dense_dimension is not None:
        _write_dense(folder / "2_Dense", dense_dimension)
        modules.append(("2_Dense", "Dense"))
    if normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
        (folder / modules[-1][0]).mkdir()
    write_json(
        folder / "modules.json",
        [
            {"idx": number, "name": str(number), "path": path, "type": types + name}
            for number, (path, name) in enumerate(modules)
        ],
    )
    if prompts is not None:
        write_json(
            folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": None}
        )
    return folder


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def edit_json(path: Path, **changes: object) -> None:
    """Sets keys of a JSON object on disk."""
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | changes)


def _dpr_config(projection_dim: int) -> DPRConfig:
    return DPRConfig(vocab_size=len(tiny_tokenizer()), projection_dim=projection_dim, **_SIZES)


def _save(model_class: type[PreTrainedModel], config: object, folder: Path, seed: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model_class(config).save_pretrained(folder)


def _write_dense(folder: Path, dimension: int) -> None:
    hidden = _SIZES["hidden_size"]
    write_json(
        folder / "config.json",
        {
            "in_features": hidden,
            "out_features": dimension,
            "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        },
    )
    generator = torch.Generator().manual_seed(5)
    save_file(
        {
            "linear.weight": torch.randn(dimension, hidden, generator=generator) / hidden**0.5,
            "linear.bias": torch.randn(dimension, generator=generator),
        },
        folder / "model.safetensors",
    )
