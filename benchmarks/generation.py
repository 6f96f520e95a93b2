"""Answering questions: ours against transformers' RAG classes, same weights, same contexts, same settings.

Both sides run in this process, in turns, so that a busy machine slows both. transformers is given trimmed
padding, its length and beam settings explicitly, and scores candidates in chunks where a single call would
not fit. The checkpoint is made here, by a fixed recipe and seed: BART whose hypotheses differ from document
to document and end within the limit. Plainly random weights propose one text for every document, which
hides the cost of scoring each text under each document.

    python -m benchmarks.generation                      # a small model, about a minute
    python -m benchmarks.generation --scale base         # BART-base, contexts of 170 tokens
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    DPRConfig,
    DPRQuestionEncoder,
    PreTrainedTokenizerFast,
    RagConfig,
    RagSequenceForGeneration,
    RagTokenForGeneration,
)

from benchmarks.report import Comparison, argument_parser, write_report
from rag_core.answers import DecodingSettings, RetrievedQuestion
from rag_core.context import PassageText
from rag_core.decoding import generate_answers
from rag_core.generator import Generator

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
START, PAD, END = 0, 1, 2
CLOCK = 0  # the hidden unit of the decoder that tells how late it is


@dataclass(frozen=True)
class Scale:
    """Sizes of the model and of its inputs."""

    vocabulary: int
    size: int
    layers: int
    context_tokens: int


SCALES = {"small": Scale(4_000, 128, 2, 40), "base": Scale(50_265, 768, 6, 170)}


@dataclass(frozen=True)
class Case:
    """What is decoded, and how."""

    name: str
    model_type: Literal["rag_sequence", "rag_token"]
    n_docs: int
    num_beams: int


CASES = [
    Case("rag_sequence_10x4", "rag_sequence", 10, 4),
    Case("rag_sequence_50x1", "rag_sequence", 50, 1),
    Case("rag_token_10x4", "rag_token", 10, 4),
    Case("rag_token_10x1", "rag_token", 10, 1),
]


def make_model(scale: Scale, sharpness: float, max_new_tokens: int) -> BartForConditionalGeneration:
    """BART by a fixed recipe and seed.

    The first cross-attention is sharp and loud, so that what a document says decides the text. One hidden
    unit of the decoder hears nothing but the position and speaks for the end token alone, so that
    hypotheses end at about four fifths of the length limit, well before it cuts them.

    Args:
      sharpness: scales the logits; 1 is flat, above it the model is the surer of its next token.
    """
    heads = scale.size // 64
    config = BartConfig(
        vocab_size=scale.vocabulary,
        d_model=scale.size,
        encoder_layers=scale.layers,
        decoder_layers=scale.layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * scale.size,
        decoder_ffn_dim=4 * scale.size,
        max_position_embeddings=512,
        forced_eos_token_id=None,
    )
    model = BartForConditionalGeneration(config).eval()
    draw = torch.Generator().manual_seed(0)
    decoder = model.model.decoder
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                embeds = "shared" in name or "embed" in name
                spread = 1.0 if embeds else weight.shape[1] ** -0.5
                weight.copy_(spread * torch.randn(weight.shape, generator=draw))
                # a mean over the hidden units would move the clock at each layer norm
                weight -= weight.mean(dim=1 if embeds else 0, keepdim=True)
        decoder.layers[0].encoder_attn.q_proj.weight *= 4.0
        decoder.layers[0].encoder_attn.out_proj.weight *= 8.0
        for layer in decoder.layers:
            layer.self_attn.out_proj.weight *= 0.25
            layer.fc2.weight *= 0.25
            for written in (layer.self_attn.out_proj, layer.encoder_attn.out_proj, layer.fc2):
                written.weight[CLOCK] = 0.0
        model.model.shared.weight[:, CLOCK] = 0.0
        model.model.shared.weight[END, CLOCK] = 300.0 * scale.size**0.5
        steps = torch.arange(len(decoder.embed_positions.weight)) - 3  # BART's offset, and the start token
        time_of_step = (steps / max_new_tokens - 0.8).clamp(-1, 1)
        decoder.embed_positions.weight[:, CLOCK] = 0.7 * scale.size**0.5 * time_of_step
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


class Peer:
    """transformers' RAG classes on the generator's weights."""

    def __init__(self, generator: Generator, case: Case, max_new_tokens: int, chunk_rows: int):
        question_encoder = DPRQuestionEncoder(
            DPRConfig(vocab_size=100, hidden_size=64, num_hidden_layers=1, num_attention_heads=1)
        )
        model = BartForConditionalGeneration(copy.deepcopy(generator.model.config)).to(generator.model.dtype)
        model.load_state_dict(generator.model.state_dict())
        model.set_attn_implementation("sdpa")
        config = RagConfig.from_question_encoder_generator_configs(
            question_encoder.config, model.config, n_docs=case.n_docs
        )
        kind = RagSequenceForGeneration if case.model_type == "rag_sequence" else RagTokenForGeneration
        self._rag = kind(config=config, question_encoder=question_encoder, generator=model).eval()
        self._generator = generator
        self._case = case
        self._limit = len(generator.prompt) + max_new_tokens
        self._chunk_rows = chunk_rows
        self.candidates = 0  # |Y| of the last question

    def answers(self, questions: Sequence[RetrievedQuestion]) -> list[str]:
        """The answers' texts."""
        return [self._answer(question) for question in questions]

    def _answer(self, question: RetrievedQuestion) -> str:
        contexts = self._generator.contexts(question.question, question.passages)
        longest = max(len(context) for context in contexts)
        ids = torch.tensor([[*context, *[PAD] * (longest - len(context))] for context in contexts])
        settings = {
            "num_beams": self._case.num_beams,
            "max_length": self._limit,
            "do_sample": False,
            "decoder_start_token_id": END,
            "forced_bos_token_id": START,
            "eos_token_id": END,
            "pad_token_id": PAD,
        }
        if self._case.num_beams > 1:
            settings |= {"early_stopping": "never", "length_penalty": 0.0}
        doc_scores = torch.from_numpy(question.scores)[None]
        with torch.inference_mode():
            if self._case.model_type == "rag_token":
                (tokens,) = self._rag.generate(
                    context_input_ids=ids,
                    context_attention_mask=(ids != PAD).long(),
                    doc_scores=doc_scores,
                    n_docs=self._case.n_docs,
                    **settings,
                )
            else:
                tokens = self._rag_sequence(ids, doc_scores, settings)
        return self._generator.decode(tokens.tolist())

    def _rag_sequence(
        self, ids: torch.Tensor, doc_scores: torch.Tensor, settings: dict[str, Any]
    ) -> torch.Tensor:
        """What RagSequenceForGeneration.generate does, with its scoring call in chunks of candidates."""
        mask = (ids != PAD).long()
        beams = self._rag.generator.generate(
            ids, attention_mask=mask, num_return_sequences=self._case.num_beams, **settings
        )
        candidates = torch.stack(list({tuple(row.tolist()): row for row in beams}.values()))
        self.candidates = len(candidates)
        losses = []
        for chunk in candidates.split(max(1, self._chunk_rows // len(ids))):
            losses.append(
                self._rag(
                    context_input_ids=ids.repeat(len(chunk), 1),
                    context_attention_mask=mask.repeat(len(chunk), 1),
                    doc_scores=doc_scores.repeat(len(chunk), 1),
                    labels=chunk,
                    exclude_bos_score=True,
                    n_docs=len(ids),
                ).loss
            )
        return candidates[torch.cat(losses).argmin()]


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall-clock seconds of one call, and what it gave."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def compare(scale: Scale, case: Case, sharpness: float, options: argparse.Namespace) -> Comparison:
    """Runs both sides in turns; compares medians and answers."""
    dtype = getattr(torch, options.dtype)
    model = make_model(scale, sharpness, options.max_new_tokens).to(dtype)
    generator = Generator(model, make_tokenizer(scale.vocabulary), prompt=(END, START), end_token=END)
    questions = make_questions(scale, options.questions, case.n_docs)
    peer = Peer(generator, case, options.max_new_tokens, options.chunk_rows)
    settings = DecodingSettings(
        case.model_type,
        "thorough" if case.model_type == "rag_sequence" else "beam",
        num_beams=case.num_beams,
        max_new_tokens=options.max_new_tokens,
    )
    ours, theirs = [], []
    for _ in range(options.runs):
        spent, answers = seconds(lambda: generate_answers(generator, questions, settings))
        ours.append(spent / len(questions))
        spent, texts = seconds(lambda: peer.answers(questions))
        theirs.append(spent / len(questions))
    done = sum(answer.pair_scorings for answer in answers)
    saved = sum(answer.pair_scorings_saved for answer in answers)
    if case.model_type == "rag_sequence":
        print(
            f"|Y| = {peer.candidates} of {case.n_docs * case.num_beams}; {done} pairs scored, {saved} saved"
        )
    return Comparison(
        name=f"{case.name}, {'peaked' if sharpness > 1 else 'flat'}",
        unit="s a question",
        ours=statistics.median(ours),
        peer=statistics.median(theirs),
        ratio=statistics.median(theirs) / statistics.median(ours),
        runs=options.runs,
        settings={
            "scale": options.scale,
            "dtype": options.dtype,
            "questions": len(questions),
            "max_new_tokens": options.max_new_tokens,
            "sharpness": sharpness,
            "threads": torch.get_num_threads(),
            "pair_scorings": done,
            "pair_scorings_saved": saved,
        },
        agrees=[answer.answer for answer in answers] == texts,
    )


def plot(comparisons: Sequence[Comparison], path: str) -> None:
    """Bars of how many times faster ours is, a comparison each."""
    from matplotlib import pyplot  # an extra: only a plot needs it

    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(comparisons) + 1), layout="constrained")
    bars = axes.barh([item.name for item in comparisons], [item.ratio for item in comparisons])
    axes.bar_label(bars, fmt="%.1f×")
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("times faster than transformers")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Runs the cases, prints a line each, writes report and plot."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--scale", choices=SCALES, default="small", help="sizes of model and contexts")
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in CASES], help="default: all")
    parser.add_argument(
        "--sharpness", nargs="+", type=float, default=[1.0, 4.0], help="1: flat; above: peaked"
    )
    parser.add_argument("--questions", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3, help="of each side, in turns; the median counts")
    parser.add_argument("--max_new_tokens", type=int, default=20)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument(
        "--chunk_rows", type=int, default=100, help="rows of one scoring call of transformers"
    )
    parser.add_argument("--plot", help="write a plot to this file; needs matplotlib, in the extra `bench`")
    options = parser.parse_args()
    comparisons = [
        compare(SCALES[options.scale], case, sharpness, options)
        for case in CASES
        for sharpness in options.sharpness
        if not options.cases or case.name in options.cases
    ]
    write_report(comparisons, options.json)
    if options.plot:
        plot(comparisons, options.plot)


if __name__ == "__main__":
    main()
