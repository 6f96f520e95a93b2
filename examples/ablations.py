"""The paper's ablations on the sample: what retrieval and its training are worth (table 6 and figure 3).

Run `python -m examples.ablations --train out/train --practice out/practice_rag`. From one generator that can
read, it trains both model types closed book, on BM25's documents, on those of a retriever that stays as it is,
and end to end; then it answers the sample's questions with 1 to 50 documents. The last two are trained with
further seeds, too: what end-to-end training gains is tested on all. It goes on where it ended.

From a retriever that has not been trained with passages, as the start of the recipe is, end-to-end training has more
to gain: `--retriever out/start --variants frozen trained`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import yaml

from examples.ablation_runs import COMPARED, MODEL_TYPES, N_DOCS, TRAINED_N_DOCS, VARIANTS, Ablations, Result
from pipelines import run
from rag_core.metrics import Bootstrap, PairedComparison

_OUTPUT = Path(__file__).parent.parent / "out" / "ablations"


def gain(made: Ablations, model_type: str) -> PairedComparison:
    """Exact match of training end to end minus that of a frozen retriever: a question's mean over the seeds."""
    frozen, trained = (made.right(variant, model_type) for variant in COMPARED)
    return Bootstrap(n_resamples=10_000).compare_means(trained, frozen)


def gains(made: Ablations) -> str:
    """`gain` of the model types, as lines for people."""
    seeds = ", ".join(map(str, made.seeds))
    lines = [f"trained end to end − frozen retriever, exact match with K = {TRAINED_N_DOCS}, seeds {seeds}:"]
    for model_type in made.model_types:
        of_type = gain(made, model_type)
        lines.append(
            f"  {MODEL_TYPES[model_type]:<13} {of_type.difference:+.3f} ({of_type.ci_low:+.3f} to "
            f"{of_type.ci_high:+.3f}, p = {of_type.p_value:.4f})"
        )
    return "\n".join(lines)


def table(results: Sequence[Result]) -> str:
    """Exact match and recall by number of documents, as lines for people."""
    lines = [f"{'exact match (recall)':<34}" + "".join(f"{f'K = {n_docs}':>16}" for n_docs in (0, *N_DOCS))]
    for model_type in MODEL_TYPES.values():
        for variant in VARIANTS.values():
            of_docs = {
                result.n_docs: result
                for result in results
                if (result.variant, result.model_type) == (variant, model_type)
            }
            if not of_docs:
                continue
            cells = [_cell(of_docs.get(n_docs)) for n_docs in (0, *N_DOCS)]
            lines.append(f"{f'{model_type}, {variant}':<34}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    recall = "" if result.recall is None else f" ({result.recall:.3f})"
    return f"{result.exact_match:.3f}{recall}"


def write_plot(results: Sequence[Result], path: Path) -> None:
    """Exact match and recall against the number of documents, like the paper's figure 3."""
    from matplotlib.figure import Figure  # late: of the extra `train`

    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    tried = [*dict.fromkeys(result.model_type for result in results)]
    axes = figure.subplots(1, len(tried), sharey=True, squeeze=False)[0]
    for axis, model_type in zip(axes, tried, strict=True):
        for number, variant in enumerate(VARIANTS.values()):
            shown = [r for r in results if (r.variant, r.model_type) == (variant, model_type)]
            colour = f"C{number}"
            if not shown:
                continue
            if shown[0].recall is None:
                axis.axhline(shown[0].exact_match, color=colour, linestyle="-.", label=variant)
                continue
            documents = [result.n_docs for result in shown]
            exact = [result.exact_match for result in shown]
            axis.plot(documents, exact, color=colour, marker=".", label=variant)
            recalls = [result.recall for result in shown if result.recall is not None]
            axis.plot(documents, recalls, color=colour, linestyle=":", linewidth=1)
        axis.set(title=model_type, xlabel="documents", xscale="log", ylim=(0, 1.02))
        axis.set_xticks(N_DOCS, [str(n_docs) for n_docs in N_DOCS])
        axis.grid(alpha=0.3)
    figure.axes[0].set_ylabel("exact match; dotted: recall")
    figure.axes[-1].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is not done yet, prints the table and writes it with the plot."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.ablations", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--train", type=Path, required=True, help="output of rag-beam run examples/train.yaml"
    )
    parser.add_argument("--practice", type=Path, required=True, help="practice worlds that its index is of")
    parser.add_argument("--output", type=Path, default=_OUTPUT, help="folder to write to")
    parser.add_argument("--steps", type=int, default=300, help="of each training")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0, 1, 2],
        help="of the trainings; all is tried with the first, frozen and trained retriever with each",
    )
    parser.add_argument(
        "--retriever",
        type=Path,
        help="folder with a question_encoder and a passage_encoder to search with; default: the recipe's",
    )
    parser.add_argument("--model_types", nargs="+", choices=MODEL_TYPES, default=[*MODEL_TYPES])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS])
    parser.add_argument("--n_docs", type=int, nargs="+", choices=N_DOCS, default=[*N_DOCS])
    options = parser.parse_args(argv)
    made = Ablations(
        train=options.train.resolve(),
        practice=options.practice.resolve(),
        output=options.output.resolve(),
        steps=options.steps,
        retriever=options.retriever and options.retriever.resolve(),
        seeds=options.seeds,
        model_types=options.model_types,
        variants=options.variants,
        n_docs=options.n_docs,
    )
    if made.compares and TRAINED_N_DOCS not in made.n_docs:
        parser.error(f"--n_docs: what training gains is measured with {TRAINED_N_DOCS}; give it too")
    made.output.mkdir(parents=True, exist_ok=True)
    run_file = made.output / "run.yaml"
    run_file.write_text(yaml.safe_dump(made.run_file(), sort_keys=False))
    status = run.main([str(run_file)])
    if status:
        return status
    results = made.results()
    told = table(results)
    if made.compares:
        told += f"\n\n{gains(made)}"
    (options.output / "table.txt").write_text(told + "\n")
    write_plot(results, options.output / "ablations.png")
    print(f"\n{told}\n\n{options.output / 'ablations.png'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
