"""Tiny random generators and checkpoints, made offline: real architectures, real configs, few weights.

Weights are drawn with a large spread, so that next-token distributions are far from uniform and differ
from document to document; nearly uniform ones would let wrong decoders pass.
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.decoders import Metaspace as MetaspaceDecoder
from tokenizers.models import BPE, Unigram
from tokenizers.pre_tokenizers import ByteLevel, Metaspace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer, UnigramTrainer
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertTokenizer,
    DPRConfig,
    DPRQuestionEncoder,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RagConfig,
    RagSequenceForGeneration,
    RagTokenForGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from rag_core.generator import Generator

SENTENCES = (
    "The capital of France is Paris , a city on the Seine .",
    "Berlin is the capital of Germany // and lies on the Spree .",
    "Who wrote the novel ? It was written by Mary Shelley / in 1818 .",
    "Gold is a chemical element with the symbol Au and atomic number 79 .",
    "SUPPORTS REFUTES supported refuted not enough info",
)
BART_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
T5_SPECIALS = ["<pad>", "</s>", "<unk>"]


def bart_tokenizer(vocab_size: int = 320) -> PreTrainedTokenizerFast:
    """Byte-level BPE with BART's special tokens: `<s> … </s>`."""
    tokenizer = Tokenizer(BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=BART_SPECIALS,
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def t5_tokenizer(vocab_size: int = 150) -> PreTrainedTokenizerFast:
    """Unigram pieces with T5's special tokens: `… </s>`."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.pre_tokenizer = Metaspace()
    tokenizer.decoder = MetaspaceDecoder()
    trainer = UnigramTrainer(
        vocab_size=vocab_size, special_tokens=T5_SPECIALS, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def bart_config(vocab_size: int, max_positions: int = 512) -> BartConfig:
    return BartConfig(
        vocab_size=vocab_size,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=max_positions,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
    )


def t5_config(vocab_size: int) -> T5Config:
    return T5Config(
        vocab_size=vocab_size,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        feed_forward_proj="gated-gelu",
    )


def random_weights(model: PreTrainedModel, seed: int, spread: float = 1.0) -> PreTrainedModel:
    """Draws every matrix anew: standard deviation `spread` / √(columns), 1 in the embeddings."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                scale = 1.0 if "shared" in name or "embed" in name else spread * weight.shape[1] ** -0.5
                weight.copy_(scale * torch.randn(weight.shape, generator=draw, dtype=torch.float64))
            elif name.endswith("bias"):
                weight.copy_(0.1 * torch.randn(weight.shape, generator=draw, dtype=torch.float64))
    return model.eval()


def tiny_bart(
    seed: int = 0,
    *,
    vocab_size: int = 320,
    prompt: tuple[int, ...] = (2, 0),
    dtype: torch.dtype = torch.float64,
    end_bias: float = 8.0,
    max_input_tokens: int = 300,
    max_positions: int = 512,
) -> Generator:
    """A BART generator; `end_bias` on the end token's logit makes some hypotheses end early."""
    model = random_weights(BartForConditionalGeneration(bart_config(vocab_size, max_positions)), seed, 2.0)
    model.final_logits_bias[0, 2] = end_bias
    return Generator(
        model.to(dtype), bart_tokenizer(), prompt=prompt, end_token=2, max_input_tokens=max_input_tokens
    )


def tiny_t5(seed: int = 0, *, vocab_size: int = 150, dtype: torch.dtype = torch.float64) -> Generator:
    """A T5 generator; a long embedding gives the end token either a high or a low logit."""
    model = random_weights(T5ForConditionalGeneration(t5_config(vocab_size)), seed, 2.0)
    model.shared.weight.data[1] *= 2.0
    return Generator(model.to(dtype), t5_tokenizer(), prompt=(0,), end_token=1)


def tiny_question_encoder(seed: int = 0) -> DPRQuestionEncoder:
    config = DPRConfig(
        vocab_size=len(question_vocabulary()),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    torch.manual_seed(seed)
    return DPRQuestionEncoder(config).eval()


def question_vocabulary() -> list[str]:
    words = sorted({word.lower() for sentence in SENTENCES for word in sentence.split()})
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]


def save_rag_checkpoint(folder: Path, seed: int = 0, *, kind: str = "rag_sequence") -> PreTrainedModel:
    """Saves a Hugging Face RAG checkpoint (DPR and BART, float32) as transformers does; returns the model."""
    generator = tiny_bart(seed, dtype=torch.float32).model
    question_encoder = tiny_question_encoder(seed)
    config = RagConfig.from_question_encoder_generator_configs(
        question_encoder.config, generator.config, n_docs=3, max_combined_length=64
    )
    model_class = RagSequenceForGeneration if kind == "rag_sequence" else RagTokenForGeneration
    model = model_class(config=config, question_encoder=question_encoder, generator=generator)
    model.save_pretrained(folder, safe_serialization=True)
    bart_tokenizer().save_pretrained(folder / "generator_tokenizer")
    vocabulary = {word: number for number, word in enumerate(question_vocabulary())}
    BertTokenizer(vocab=vocabulary).save_pretrained(folder / "question_encoder_tokenizer")
    return model
