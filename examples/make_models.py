"""Makes tiny models with random weights for the sample world, so that every stage runs offline.

They have the layout of the real checkpoints: DPR's two encoders, and Hugging Face RAG checkpoints with a
BART generator. Run `python -m examples.make_models --world examples/world --output examples/models`.
What they answer is noise until they are trained. The same world and seed give the same files.
"""

import argparse
import copy
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BartTokenizerFast,
    DPRConfig,
    DPRContextEncoder,
    DPRContextEncoderTokenizerFast,
    DPRQuestionEncoder,
    DPRQuestionEncoderTokenizerFast,
    RagConfig,
    RagSequenceForGeneration,
    RagTokenForGeneration,
    RagTokenizer,
)
from transformers.utils import logging

DEFAULT_SEED = 20050
PIECES = 2000  # learned by each tokenizer; WordPiece has each twice, at the start of a word and inside
HIDDEN = 64
LAYERS = 2
HEADS = 4
ENCODER_POSITIONS = 256
GENERATOR_POSITIONS = 512
N_DOCS = 5

_BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_BART_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # BartConfig's ids 0, 1, 2 are the first three

_CARD = """# {name}: random weights

{what} The weights are **random** (seed {seed}): what this model gives is noise until it is trained.
It was made for rag-beam's sample world by

    python -m examples.make_models --world WORLD --output MODELS --seed {seed}

with a tokenizer learned from the sample's own articles, questions and claims.
"""


def read_texts(world: Path) -> list[str]:
    """Titles, texts and questions of a composed world.

    Raises:
      SystemExit: the folder holds no composed world.
    """
    paths = sorted(world.rglob("*.jsonl"))
    if not paths:
        raise SystemExit(f"{world}: no .jsonl files; run python -m examples.compose --output {world} first")
    return [text for path in paths for text in _texts(path)]


def _texts(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield from (row[column] for column in ("title", "text", "question") if column in row)


def learn_wordpieces(texts: Sequence[str]) -> dict[str, int]:
    """A vocabulary of BERT's kind, uncased.

    The pieces are learned by BPE: its trainer breaks ties in a fixed order, while the library's
    WordPiece trainer gives another vocabulary each time, and so another model fingerprint.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=PIECES, show_progress=False))
    pieces = sorted(tokenizer.get_vocab())
    entries = [*_BERT_SPECIALS, *pieces, *(f"##{piece}" for piece in pieces)]
    return {entry: index for index, entry in enumerate(entries)}


def learn_byte_level_bpe(texts: Sequence[str]) -> BartTokenizerFast:
    """BART's kind of tokenizer with a small vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=_BART_SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    return BartTokenizerFast(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        model_max_length=GENERATOR_POSITIONS,
    )


def make_models(texts: Sequence[str], output: Path, seed: int = DEFAULT_SEED) -> None:
    """Saves `question_encoder`, `passage_encoder`, `rag_sequence` and `rag_token` below `output`.

    The RAG checkpoints hold the very question encoder that is saved beside them, and one generator.

    Args:
      texts: what the tokenizers learn from.
    """
    wordpieces = learn_wordpieces(texts)
    question_tokenizer = DPRQuestionEncoderTokenizerFast(vocab=wordpieces, model_max_length=ENCODER_POSITIONS)
    passage_tokenizer = DPRContextEncoderTokenizerFast(vocab=wordpieces, model_max_length=ENCODER_POSITIONS)
    generator_tokenizer = learn_byte_level_bpe(texts)
    encoder_config = DPRConfig(
        vocab_size=len(wordpieces),
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * HIDDEN,
        max_position_embeddings=ENCODER_POSITIONS,
        pad_token_id=wordpieces["[PAD]"],
    )
    generator_config = BartConfig(
        vocab_size=len(generator_tokenizer),
        d_model=HIDDEN,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=4 * HIDDEN,
        decoder_ffn_dim=4 * HIDDEN,
        max_position_embeddings=GENERATOR_POSITIONS,
    )
    torch.manual_seed(seed)
    # a config belongs to one model: saving writes the model's class into it
    question_encoder = DPRQuestionEncoder(copy.deepcopy(encoder_config))
    passage_encoder = DPRContextEncoder(copy.deepcopy(encoder_config))
    generator = BartForConditionalGeneration(generator_config)

    question_encoder.save_pretrained(output / "question_encoder")
    question_tokenizer.save_pretrained(output / "question_encoder")
    _write_card(output / "question_encoder", "A DPR question encoder.", seed)
    passage_encoder.save_pretrained(output / "passage_encoder")
    passage_tokenizer.save_pretrained(output / "passage_encoder")
    _write_card(output / "passage_encoder", "A DPR passage encoder.", seed)
    for name, model_class in (
        ("rag_sequence", RagSequenceForGeneration),
        ("rag_token", RagTokenForGeneration),
    ):
        config = RagConfig.from_question_encoder_generator_configs(
            question_encoder.config,
            generator_config,
            n_docs=N_DOCS,
            retrieval_vector_size=HIDDEN,
            bos_token_id=generator_config.bos_token_id,
            pad_token_id=generator_config.pad_token_id,
            eos_token_id=generator_config.eos_token_id,
            decoder_start_token_id=generator_config.decoder_start_token_id,
        )
        model = model_class(config=config, question_encoder=question_encoder, generator=generator)
        model.save_pretrained(output / name)
        RagTokenizer(question_tokenizer, generator_tokenizer).save_pretrained(output / name)
        _write_card(
            output / name, "A Hugging Face RAG checkpoint: DPR question encoder and BART generator.", seed
        )


def _write_card(folder: Path, what: str, seed: int) -> None:
    card = _CARD.format(name=folder.name, what=what, seed=seed)
    (folder / "README.md").write_text(card, encoding="utf-8", newline="\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the models and says where they are and what to expect of them."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.make_models", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--world", type=Path, required=True, help="folder that examples.compose wrote")
    parser.add_argument("--output", type=Path, required=True, help="folder for the models")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of the random weights")
    options = parser.parse_args(argv)
    texts = read_texts(options.world)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    make_models(texts, options.output, options.seed)
    print(f"{options.output}: question_encoder, passage_encoder, rag_sequence, rag_token")
    print("Their weights are random: retrieval and answers are noise until they are trained.")


if __name__ == "__main__":
    main()
