"""Makes the models that training starts from: tokenizers learned from practice text, weights not yet trained.

Run `python -m examples.make_models --practice practice --output start`. It writes DPR's two encoders and a T5
generator, all small. The same practice text and seed give the same files.
"""

import argparse
import copy
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    DPRConfig,
    DPRContextEncoder,
    DPRContextEncoderTokenizerFast,
    DPRQuestionEncoder,
    DPRQuestionEncoderTokenizerFast,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.utils import logging

from examples.start_weights import draw_encoder, draw_generator

DEFAULT_SEED = 20050
TEXTS = 500  # of each file of practice text, that the tokenizers learn from
ENCODER_WIDTH = 128
ENCODER_PIECES = 3000  # learned; some are met both at the start of a word and inside
ENCODER_LAYERS = 2
ENCODER_HEADS = 4
ENCODER_POSITIONS = 256
TITLE_POSITIONS = 8
GENERATOR_PIECES = 3000
GENERATOR_WIDTH = 192
GENERATOR_LAYERS = 4, 2  # of its encoder, of its decoder
GENERATOR_HEADS = 6
GENERATOR_HEAD_SIZE = 32
GENERATOR_TOKENS = 512

_BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_T5_SPECIALS = ["<pad>", "</s>", "<unk>"]  # T5Config's ids 0, 1, 2


def read_texts(practice: Path) -> list[str]:
    """Titles, texts, questions and claims of practice text, at most `TEXTS` of each file.

    Raises:
      SystemExit: the folder holds no practice text.
    """
    kinds = ("corpus", "questions", "claims")
    paths = [path for kind in kinds for path in sorted((practice / kind).glob("*.jsonl"))]
    if not paths:
        raise SystemExit(
            f"{practice}: holds no practice text; run python -m examples.practice --output {practice} first"
        )
    return [text for path in paths for text in _texts(path)]


def _texts(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        for _, line in zip(range(TEXTS), file, strict=False):
            row = json.loads(line)
            yield from (row[column] for column in ("title", "text", "question") if column in row)


def learn_wordpieces(texts: Sequence[str]) -> dict[str, int]:
    """A vocabulary of BERT's kind, uncased.

    The pieces are learned by BPE, and enter as what they are in the texts: the start of a word, the inside of
    one (`##`), or both. BPE's trainer breaks ties in a fixed order; the library's WordPiece trainer, and BPE
    with that prefix, give another vocabulary each time, and so another model fingerprint.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=ENCODER_PIECES, show_progress=False))
    characters = [piece for piece in tokenizer.get_vocab() if len(piece) == 1]
    met = {*characters, *(f"##{character}" for character in characters)}
    for text in texts:
        encoding, word = tokenizer.encode(text), None
        for piece, own_word in zip(encoding.tokens, encoding.word_ids, strict=True):
            met.add(piece if own_word != word else f"##{piece}")
            word = own_word
    return {entry: index for index, entry in enumerate([*_BERT_SPECIALS, *sorted(met)])}


def learn_byte_level_bpe(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """The generator's tokenizer: a word has the same tokens at the start of a text as within it.

    So an answer is written with the tokens that it has in the passage, and can be copied.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=GENERATOR_PIECES,
        special_tokens=_T5_SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=GENERATOR_TOKENS,
    )


def make_models(texts: Sequence[str], output: Path, seed: int = DEFAULT_SEED) -> None:
    """Saves `question_encoder`, `passage_encoder` and `generator` below `output`.

    The two encoders start from one draw, so that they can be compared.

    Args:
      texts: what the tokenizers learn from.
    """
    wordpieces = learn_wordpieces(texts)
    generator_tokenizer = learn_byte_level_bpe(texts)
    encoder_config = DPRConfig(
        vocab_size=len(wordpieces),
        hidden_size=ENCODER_WIDTH,
        num_hidden_layers=ENCODER_LAYERS,
        num_attention_heads=ENCODER_HEADS,
        intermediate_size=2 * ENCODER_WIDTH,
        max_position_embeddings=ENCODER_POSITIONS,
        pad_token_id=wordpieces["[PAD]"],
        hidden_dropout_prob=0.0,  # practice text has no end: nothing is learned by heart
        attention_probs_dropout_prob=0.0,
    )
    generator_config = T5Config(
        vocab_size=len(generator_tokenizer),
        d_model=GENERATOR_WIDTH,
        d_kv=GENERATOR_HEAD_SIZE,
        d_ff=2 * GENERATOR_WIDTH,
        num_layers=GENERATOR_LAYERS[0],
        num_decoder_layers=GENERATOR_LAYERS[1],
        num_heads=GENERATOR_HEADS,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    torch.manual_seed(seed)
    # a config belongs to one model: saving writes the model's class into it
    question_encoder = DPRQuestionEncoder(copy.deepcopy(encoder_config))
    passage_encoder = DPRContextEncoder(copy.deepcopy(encoder_config))
    question_tokenizer = DPRQuestionEncoderTokenizerFast(vocab=wordpieces, model_max_length=ENCODER_POSITIONS)
    draw = torch.get_rng_state()
    draw_encoder(question_encoder.question_encoder.bert_model)
    torch.set_rng_state(draw)
    draw_encoder(passage_encoder.ctx_encoder.bert_model, TITLE_POSITIONS)
    generator = T5ForConditionalGeneration(generator_config)
    draw_generator(generator)

    for name, model, tokenizer in (
        ("question_encoder", question_encoder, question_tokenizer),
        (
            "passage_encoder",
            passage_encoder,
            DPRContextEncoderTokenizerFast(vocab=wordpieces, model_max_length=ENCODER_POSITIONS),
        ),
        ("generator", generator, generator_tokenizer),
    ):
        model.save_pretrained(output / name)
        tokenizer.save_pretrained(output / name)


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the models and says where they are."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.make_models", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--practice", type=Path, required=True, help="folder that examples.practice wrote")
    parser.add_argument("--output", type=Path, required=True, help="folder for the models")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of the weights")
    options = parser.parse_args(argv)
    texts = read_texts(options.practice)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    make_models(texts, options.output, options.seed)
    print(f"{options.output}: question_encoder, passage_encoder, generator, not yet trained")


if __name__ == "__main__":
    main()
