"""What a large corpus costs on a cluster: hours, bytes and elements of each stage, by formula from stated inputs.

    python -m benchmarks.scale_model                                # Wikipedia and a billion passages, CPUs and GPUs
    python -m benchmarks.scale_model --passages 5000000 --set questions=3610 workers=4
    python -m benchmarks.scale_model --measure out/sample           # bytes a row of the tables of a run

A model and no measurement: every input is printed with where it comes from, and each can be set to another
value. docs/scale.md says what follows from it.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scale_inputs import CORPORA, INPUTS
from benchmarks.scale_limits import encoding_units, limits

_HOUR = 3600.0


@dataclass(frozen=True)
class Cost:
    """What a stage takes.

    Attributes:
      core_hours, gpu_hours: work, whatever the machines.
      wall_hours: on the stated cluster, as long as computing or moving the bytes takes, whichever is longer.
      read, written: bytes from and to the store, units on the way included.
      units: elements that cross to the step that computes, and come back as reports.
      files: of the result.
    """

    stage: str
    core_hours: float
    gpu_hours: float
    wall_hours: float
    read: float
    written: float
    units: int
    files: int


def costs(passages: int, inputs: Mapping[str, float], *, gpus: bool) -> list[Cost]:
    """The stages of the main job in order."""
    workers, cores, questions = inputs["workers"], inputs["cores"], inputs["questions"]
    passages_table = passages * inputs["passage_bytes"]
    embeddings = passages * inputs["vector_bytes"]
    vectors = 2 * passages * inputs["dimension"]
    retrievals = questions * inputs["retrieval_bytes"]
    parts = math.ceil(passages / inputs["rows_per_part"])
    question_parts = math.ceil(questions / inputs["rows_per_part"])
    shards = math.ceil(passages / inputs["shard_rows"])
    sources = math.ceil(passages * inputs["corpus_bytes"] / inputs["chunk_unit_bytes"])
    blocks = math.ceil(questions / inputs["question_block"])
    tiles = max(1, min(shards, int(workers) // blocks))

    def cost(
        stage: str,
        *,
        core: float,
        gpu: float | None,
        at_once: float,
        read: float,
        written: float,
        units: int,
        files: int,
    ) -> Cost:
        """`core` and `gpu` in seconds; `at_once` is how many cores work on a machine's share."""
        on_gpu = gpus and gpu is not None
        machines = min(workers, units)
        seconds = gpu / machines if on_gpu and gpu is not None else core / at_once
        seconds = max(seconds, (read + written) / (machines * inputs["network"]))
        return Cost(
            stage=stage,
            core_hours=0.0 if on_gpu else core / _HOUR,
            gpu_hours=gpu / _HOUR if on_gpu and gpu is not None else 0.0,
            wall_hours=seconds / _HOUR,
            read=read,
            written=written,
            units=units,
            files=files,
        )

    product = 2.0 * passages * inputs["dimension"] * questions
    generating = questions * inputs["generate_seconds"]
    encode_units = encoding_units(passages, inputs)
    search_units = blocks * tiles
    answer_units = math.ceil(questions / inputs["answer_unit"])
    return [
        cost(
            "chunk",
            core=passages / inputs["chunk_rate"],
            gpu=None,
            at_once=min(sources, workers * cores),  # a process a core, a source a process
            read=2 * passages * inputs["corpus_bytes"] + passages_table,  # the launcher hashes, workers read
            written=2 * passages_table,
            units=sources,
            files=max(parts, sources),
        ),
        cost(
            "encode",
            core=passages / inputs["encode_rate"],
            gpu=passages * passage_flops(inputs) / (inputs["gpu_peak"] * inputs["gpu_share"]),
            at_once=min(workers, encode_units) * cores,
            read=passages_table + embeddings,
            written=2 * embeddings,
            units=encode_units,
            files=parts,
        ),
        cost(
            "index",
            core=passages / inputs["file_rate"],
            gpu=None,
            at_once=min(workers, shards),  # one thread a shard
            read=passages_table + embeddings,
            written=vectors + passages * inputs["stored_passage_bytes"],  # shards are written in place
            units=shards,
            files=2 * shards,
        ),
        cost(
            "retrieve",
            core=product / inputs["search_rate"],
            gpu=product / inputs["gpu_search_rate"],
            at_once=min(workers, search_units) * cores,
            read=blocks * vectors
            + questions * inputs["n_docs"] * inputs["stored_passage_bytes"]
            + retrievals,
            written=2 * retrievals,
            units=search_units,
            files=question_parts,
        ),
        cost(
            "generate",
            core=generating,
            gpu=generating / inputs["gpu_generate_speedup"],
            at_once=min(workers, answer_units) * cores,
            read=retrievals + questions * inputs["answer_bytes"],
            written=2 * questions * inputs["answer_bytes"],
            units=answer_units,
            files=question_parts,
        ),
    ]


def passage_flops(inputs: Mapping[str, float]) -> float:
    """Floating point operations of encoding one passage by BERT-base's 12 layers.

    A token takes 12·D² multiplications a layer in projections and feed-forward, and 2·T·D in attention over
    T tokens; a multiplication and its addition are two operations.
    """
    size, tokens, layers = inputs["dimension"], inputs["passage_tokens"], 12
    return 2 * layers * tokens * (12 * size**2 + 2 * tokens * size)


def measured_bytes(run: Path) -> dict[str, float]:
    """Bytes a row of every data set of a run, from their manifests."""
    found = {}
    for path in sorted(run.glob("*/manifest.json")):
        parts = [part for part in json.loads(path.read_text())["parts"] if "rows" in part]
        rows = sum(part["rows"] for part in parts)
        if rows:
            found[path.parent.name] = sum(part["bytes"] for part in parts) / rows
    return found


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows for people and for Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def short(value: float) -> str:
    """A number in three digits, thousands by their letter."""
    for limit, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e3 if letter == 'k' else limit):.3g} {letter}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def report(corpus: str, passages: int, inputs: Mapping[str, float], *, gpus: bool) -> str:
    """The table of one corpus on one cluster."""
    stages = costs(passages, inputs, gpus=gpus)
    rows = [
        [
            cost.stage,
            short(cost.core_hours) if cost.core_hours else "",
            short(cost.gpu_hours) if cost.gpu_hours else "",
            short(cost.wall_hours),
            short(cost.read),
            short(cost.written),
            f"{cost.units:,}",
            f"{cost.files:,}",
        ]
        for cost in stages
    ]
    header = [
        "stage",
        "core-hours",
        "GPU-hours",
        "wall hours",
        "bytes read",
        "bytes written",
        "units",
        "files",
    ]
    where = f"{inputs['workers']:.0f} machines, " + (
        "one GPU each" if gpus else f"{inputs['cores']:.0f} cores each"
    )
    return f"{corpus}, {passages:,} passages, {where}:\n\n{table(header, rows)}"


def main() -> None:
    """Prints the inputs, the costs and the limits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--passages", type=int, help="a corpus of this size, in place of the two")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="other inputs")
    parser.add_argument("--measure", type=Path, help="only print the bytes a row of a run's tables")
    arguments = parser.parse_args()
    if arguments.measure:
        rows = [[name, f"{value:,.0f}"] for name, value in measured_bytes(arguments.measure).items()]
        print(table(["data set", "bytes a row"], rows))
        return
    given = dict(item.split("=", 1) for item in arguments.set)
    if unknown := given.keys() - INPUTS.keys():
        parser.error(f"--set {min(unknown)}: expected one of {', '.join(INPUTS)}")
    values = {name: float(given.get(name, quantity.value)) for name, quantity in INPUTS.items()}
    print(
        table(
            ["input", "value", "unit", "source"],
            [
                [name, f"{values[name]:,g}", quantity.unit, "given" if name in given else quantity.source]
                for name, quantity in INPUTS.items()
            ],
        )
    )
    corpora = {"A corpus": arguments.passages} if arguments.passages else CORPORA
    for corpus, passages in corpora.items():
        for gpus in (False, True):
            print(f"\n{report(corpus, passages, values, gpus=gpus)}")
    print("\nWhat grows:\n")
    grown = [limits(passages, values) for passages in corpora.values()]
    rows = [
        [lines[0][0], *(short(line[1]) for line in lines), lines[0][2]] for lines in zip(*grown, strict=True)
    ]
    print(table(["", *corpora, "unit"], rows))


if __name__ == "__main__":
    main()
