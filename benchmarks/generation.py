"""Answering questions: ours against transformers' RAG classes and CTranslate2, same weights, same contexts.

All sides run in this process, in turns, so that a busy machine slows all of them. The checkpoint is made
here (`benchmarks/bart_recipe.py`); of RAG-Sequence the size of the union of hypotheses, |Y|, is printed.

    python -m benchmarks.generation                      # a small model, about a minute
    python -m benchmarks.generation --scale base         # BART-base, contexts of 170 tokens

CTranslate2 and the plot need the extra `bench`. Of ours, the peak of memory while decoding is told as well.
"""

import argparse
import dataclasses
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from benchmarks.bart_recipe import END, SCALES, START, make_model, make_questions, make_tokenizer
from benchmarks.generation_peers import CTranslate2Peer, TransformersPeer
from benchmarks.report import Comparison, argument_parser, write_report
from rag_core.answers import Answer, DecodingSettings, RetrievedQuestion
from rag_core.decoding import generate_answers
from rag_core.generator import Generator

SHARPNESS = {"flat": 0.5, "peaked": 2.0}


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
    Case("rag_sequence_50x4", "rag_sequence", 50, 4),
    Case("rag_token_10x4", "rag_token", 10, 4),
    Case("rag_token_15x1", "rag_token", 15, 1),
]


class Peer(Protocol):
    """Something that answers questions."""

    def answers(self, questions: Sequence[RetrievedQuestion]) -> list[str]:
        """The answers' texts."""


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall-clock seconds of one call, and what it gave."""
    start = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def resident_bytes() -> int:
    """Memory of this process that is not of files."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def peak_growth(work: Callable[[], Any]) -> int:
    """By how many bytes the process grew, at most, while it worked; on a GPU the device's memory counts."""
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() - before
    before = peak = resident_bytes()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return peak - before


def make_peers(generator: Generator, case: Case, options: argparse.Namespace) -> dict[str, Peer]:
    """The peers asked for, as far as they can do the case."""
    made: dict[str, Peer] = {}
    if "transformers" in options.peers:
        made["transformers"] = TransformersPeer(
            generator, case.model_type, case.n_docs, case.num_beams, options.max_new_tokens, options.max_rows
        )
    for compute_type in ("float32", "int8"):
        name = f"ctranslate2_{compute_type}"
        if name in options.peers and case.model_type == "rag_sequence":
            made[name] = CTranslate2Peer(generator, case.num_beams, options.max_new_tokens, compute_type)
    return made


def compare(case: Case, shape: str, options: argparse.Namespace) -> list[Comparison]:
    """Runs all sides in turns; compares medians and answers."""
    scale = SCALES[options.scale]
    model = make_model(scale, SHARPNESS[shape], options.max_new_tokens)
    generator = Generator(
        model.to(getattr(torch, options.dtype)).to(options.device),
        make_tokenizer(scale.vocabulary),
        prompt=(END, START),
        end_token=END,
    )
    questions = make_questions(scale, options.questions, case.n_docs)
    settings = DecodingSettings(
        case.model_type,
        "thorough" if case.model_type == "rag_sequence" else "beam",
        num_beams=case.num_beams,
        max_new_tokens=options.max_new_tokens,
        batch_tokens=options.batch_tokens,
    )
    peers = make_peers(generator, case, options)
    times: dict[str, list[float]] = {name: [] for name in ("ours", *peers)}
    texts: dict[str, list[str]] = {}
    answers: list[Any] = []
    grown = peak_growth(lambda: generate_answers(generator, questions, settings))  # also warms up
    for _ in range(options.runs):
        spent, answers = seconds(lambda: generate_answers(generator, questions, settings))
        times["ours"].append(spent / len(questions))
        for name, peer in peers.items():
            spent, texts[name] = seconds(lambda peer=peer: peer.answers(questions))  # type: ignore[misc]
            times[name].append(spent / len(questions))
    ours = statistics.median(times["ours"])
    facts = describe(generator, questions, settings, answers) | {"peak_growth_bytes": grown}
    print(f"{case.name} {shape}: ours {ours:.3g} s a question, {facts}", flush=True)
    return [
        Comparison(
            name=f"{case.name} {shape} {name}",
            unit="s a question",
            ours=ours,
            peer=statistics.median(times[name]),
            ratio=statistics.median(times[name]) / ours,
            runs=options.runs,
            settings=vars(options) | facts | {"case": case.name, "threads": torch.get_num_threads()},
            agrees=[answer.answer for answer in answers] == texts[name],
        )
        for name in peers
    ]


def describe(
    generator: Generator,
    questions: Sequence[RetrievedQuestion],
    settings: DecodingSettings,
    answers: Sequence[Answer],
) -> dict[str, Any]:
    """What tells how hard the case was: |Y| a question, pairs scored and saved, answers that the limit cut."""
    facts: dict[str, Any] = {"cut": sum(answer.finish_reason == "length" for answer in answers)}
    if settings.model_type == "rag_sequence":
        fast = dataclasses.replace(settings, decoding="fast", num_candidates=10**6)
        unions = [len(answer.candidates) for answer in generate_answers(generator, questions, fast)]
        facts |= {
            "union": statistics.mean(unions),
            "pair_scorings": sum(answer.pair_scorings for answer in answers),
            "pair_scorings_saved": sum(answer.pair_scorings_saved for answer in answers),
        }
    return facts


def plot(comparisons: Sequence[Comparison], path: str) -> None:
    """Bars of how many times faster ours is, a comparison each."""
    from matplotlib import pyplot  # an extra: only a plot needs it

    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(comparisons) + 1), layout="constrained")
    bars = axes.barh([item.name for item in comparisons], [item.ratio for item in comparisons])
    axes.bar_label(bars, fmt="%.1f×")
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("times faster than the peer")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Runs the cases, prints a line each, writes report and plot."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--scale", choices=SCALES, default="small", help="sizes of model and contexts")
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in CASES], help="default: all")
    parser.add_argument("--shapes", nargs="+", choices=SHARPNESS, default=list(SHARPNESS))
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=["transformers", "ctranslate2_float32", "ctranslate2_int8"],
        default=["transformers"],
    )
    parser.add_argument("--questions", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3, help="of each side, in turns; the median counts")
    parser.add_argument("--max_new_tokens", type=int, default=20)
    parser.add_argument("--batch_tokens", type=int, default=8192, help="budget of ours")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--max_rows", type=int, default=400, help="decoder rows of one call of transformers")
    parser.add_argument("--plot", help="write a plot to this file")
    options = parser.parse_args()
    comparisons = [
        comparison
        for case in CASES
        for shape in options.shapes
        if not options.cases or case.name in options.cases
        for comparison in compare(case, shape, options)
    ]
    write_report(comparisons, options.json)
    if options.plot:
        plot(comparisons, options.plot)


if __name__ == "__main__":
    main()
