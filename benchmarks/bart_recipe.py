"""A BART whose hypotheses differ from document to document and end, made by a fixed recipe and seed.

Plainly random weights propose one text for every document, which hides the cost of scoring each text under
each document.
"""

from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

from rag_core.answers import RetrievedQuestion
from rag_core.context import PassageText

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
START, PAD, END = 0, 1, 2
_CLOCK = 0  # the hidden unit of the decoder that tells how late it is


@dataclass(frozen=True)
class Scale:
    """Sizes of the model and of its inputs."""

    vocabulary: int
    size: int
    layers: int
    context_tokens: int


SCALES = {
    "small": Scale(4_000, 128, 2, 40),
    "base": Scale(50_265, 768, 6, 170),
    "large": Scale(50_265, 1024, 12, 170),
}


def make_model(scale: Scale, sharpness: float, max_new_tokens: int) -> BartForConditionalGeneration:
    """BART with drawn weights, adjusted in three places.

    The encoder's layers are quiet, so that its states stay those of single tokens. The decoder's first
    cross-attention is sharp and loud, so that what a document says decides the text. One hidden unit of the
    decoder hears nothing but the position and speaks for the end token alone, so that hypotheses end at
    about four fifths of the length limit, well before it cuts them.

    Args:
      sharpness: scales the logits; 0.5 is flat, 2 is peaked.
    """
    config = BartConfig(
        vocab_size=scale.vocabulary,
        d_model=scale.size,
        encoder_layers=scale.layers,
        decoder_layers=scale.layers,
        encoder_attention_heads=scale.size // 64,
        decoder_attention_heads=scale.size // 64,
        encoder_ffn_dim=4 * scale.size,
        decoder_ffn_dim=4 * scale.size,
        max_position_embeddings=512,
        bos_token_id=START,
        pad_token_id=PAD,
        eos_token_id=END,
        decoder_start_token_id=END,
        forced_eos_token_id=None,
    )
    model = BartForConditionalGeneration(config).eval()
    draw = torch.Generator().manual_seed(0)
    encoder, decoder = model.model.encoder, model.model.decoder
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                embeds = "shared" in name or "embed" in name
                spread = 1.0 if embeds else weight.shape[1] ** -0.5
                weight.copy_(spread * torch.randn(weight.shape, generator=draw))
                # a mean over the hidden units would move the clock at each layer norm
                weight -= weight.mean(dim=1 if embeds else 0, keepdim=True)
        for layer in (*encoder.layers, *decoder.layers):
            layer.self_attn.out_proj.weight *= 0.25
            layer.fc2.weight *= 0.25
        decoder.layers[0].encoder_attn.q_proj.weight *= 4.0
        decoder.layers[0].encoder_attn.out_proj.weight *= 8.0
        for layer in decoder.layers:
            for written in (layer.self_attn.out_proj, layer.encoder_attn.out_proj, layer.fc2):
                written.weight[_CLOCK] = 0.0
        model.model.shared.weight[:, _CLOCK] = 0.0
        model.model.shared.weight[END, _CLOCK] = 300.0 * scale.size**0.5
        steps = torch.arange(len(decoder.embed_positions.weight)) - 3  # BART's offset, and the start token
        time_of_step = (steps / max_new_tokens - 0.8).clamp(-1, 1)
        decoder.embed_positions.weight[:, _CLOCK] = 0.7 * scale.size**0.5 * time_of_step
        for parameter in decoder.layers[-1].final_layer_norm.parameters():
            parameter *= sharpness * 4.0 / scale.size**0.5
    return model


def make_tokenizer(words: int) -> PreTrainedTokenizerFast:
    """One token a word, `<s> … </s>` around a text."""
    vocabulary = {token: number for number, token in enumerate(SPECIALS)}
    vocabulary |= {f"w{number}": number for number in range(len(SPECIALS), words)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", START), ("</s>", END)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def make_questions(scale: Scale, count: int, n_docs: int) -> list[RetrievedQuestion]:
    """Questions of ten words with passages of about `context_tokens`, and scores in DPR's range."""
    draw = np.random.default_rng(0)

    def text(words: int) -> str:
        return " ".join(f"w{number}" for number in draw.integers(len(SPECIALS), scale.vocabulary, words))

    lengths = scale.context_tokens - 14 + draw.integers(-10, 11, (count, n_docs))
    return [
        RetrievedQuestion(
            text(10),
            tuple(PassageText("", text(words)) for words in row),
            (75 + draw.normal(size=n_docs)).astype(np.float32),
        )
        for row in lengths
    ]
