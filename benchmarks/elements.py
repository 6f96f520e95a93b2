"""What crosses between Beam's steps: elements, their bytes when encoded, and parts, by stage and size of corpus.

    python -m benchmarks.elements --work work

makes a corpus of articles, one four and one sixteen times as large, with as many times the questions, runs
the stages of the main job on each with the sample's models, and prints a table. Units and parts are small
(60 passages, 16 questions; 240 rows), so that there are many. Each element of each PCollection is encoded by
its coder, as by a runner that moves it. Rows go through files: bytes should grow with units and parts, and
the largest element not at all.
"""

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.coders import registry
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from benchmarks.report import argument_parser, machine
from pipelines.dataset.manifest import read_manifest
from pipelines.dataset.target import claim
from pipelines.filesystems import STORAGE
from pipelines.launch import Stage
from pipelines.run import STAGES
from pipelines.runners import pipeline_options

_SIZES = "element bytes"
_FILES, _ARTICLES, _WORDS, _QUESTIONS = 2, 30, 400, 16  # of the corpus once: files, articles of each, …
_UNIT_PASSAGES, _UNIT_QUESTIONS, _PART_ROWS = 60, 16, 240
_NAMES = ("Aranth", "Belmor", "Corvane", "Dunwick", "Eastholm", "Farrow", "Glenmar", "Hollin")


@dataclass(frozen=True)
class Crossing:
    """A PCollection and what was in it.

    Attributes:
      producer: the full label of the transform that makes it.
      elements: how many.
      bytes: of all, encoded.
      largest: bytes of the largest.
    """

    producer: str
    elements: int
    bytes: int
    largest: int

    @property
    def is_shuffled(self) -> bool:
        """Whether the runner gathers and spreads it, which on a cluster goes over the network."""
        return self.producer.endswith("GroupByKey")


class MeasureFn(beam.DoFn):
    """Encodes each element and notes its bytes."""

    def __init__(self, coder: Any, number: int):
        self._coder = coder
        self._sizes = Metrics.distribution(_SIZES, str(number))

    def process(self, element: Any) -> None:
        self._sizes.update(len(self._coder.encode(element)))


class _Collections(PipelineVisitor):
    """Finds every PCollection that a primitive step makes."""

    def __init__(self) -> None:
        self.found: dict[beam.PCollection, str] = {}

    def visit_transform(self, transform_node: AppliedPTransform) -> None:
        for collection in transform_node.outputs.values():
            if isinstance(collection, beam.PCollection):
                self.found[collection] = transform_node.full_label


def run_measured(stage: Stage, argv: Sequence[str]) -> list[Crossing]:
    """Runs a stage from its command line in this process; what crossed between its steps.

    Raises:
      UsageError: as the stage does.
    """
    settings, beam_args = stage.parse(argv)
    options = pipeline_options(beam_args)
    tasks = stage.prepare(settings, 1)
    for task in [tasks[-1], *tasks[:-1]]:  # the output first: the others lie below it
        claim(STORAGE, task.target, overwrite=False)
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=options)
    done = pipeline | "Start" >> beam.Create(["start"])
    for task in tasks:
        done = done | task.make
    collections = _Collections()
    pipeline.visit(collections)
    producers = []
    for number, (collection, producer) in enumerate(collections.found.items()):
        coder = registry.get_coder(collection.element_type or Any)
        _ = collection | f"Measure {number}" >> beam.ParDo(MeasureFn(coder, number))
        producers.append(producer)
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_namespace(_SIZES))["distributions"]
    sizes = {int(item.key.metric.name): item.committed for item in found}
    return [
        Crossing(producer, sizes[number].count, sizes[number].sum, sizes[number].max)
        for number, producer in enumerate(producers)
        if number in sizes
    ]


def commands(work: Path, models: Path, times: int) -> Iterator[tuple[str, list[str]]]:
    """Makes the inputs anew, then gives each stage's name and command line, in order."""
    shutil.rmtree(work, ignore_errors=True)
    _make_inputs(work, times)
    out, questions = work / "out", work / "questions.jsonl"
    parts = ["--rows_per_part", str(_PART_ROWS)]
    asked = ["--unit_rows", str(_UNIT_QUESTIONS), *parts]
    model = ["--n_docs", "2", "--num_threads", "1"]
    yield "chunk", ["--input", f"{work}/corpus/*.jsonl", *parts, "--output", f"{out}/passages"]
    encoder = ["--encoder", f"{models}/passage_encoder", "--num_threads", "1"]
    rows = ["--passages", f"{out}/passages"]
    units = ["--unit_rows", str(_UNIT_PASSAGES)]
    yield "encode", [*rows, *encoder, *units, "--output", f"{out}/embeddings"]
    shards = ["--embeddings", f"{out}/embeddings", "--shard_rows", str(_PART_ROWS)]
    yield "index", [*rows, *shards, "--output", f"{out}/index"]
    search = ["--index", f"{out}/index", "--questions", str(questions), "--encoder", f"{models}/rag_answers"]
    block = ["--question_block", str(_UNIT_QUESTIONS)]
    yield "retrieve", [*search, *model, *block, *asked, "--output", f"{out}/retrievals"]
    answered = ["--retrievals", f"{out}/retrievals", *model, *asked]
    kind = ["--model", f"{models}/rag_answers", "--model_type", "rag_token", "--max_new_tokens", "4"]
    yield "generate", [*answered, *kind, "--output", f"{out}/answers"]
    labels = ["--model", f"{models}/rag_labels", "--label_set", "SUPPORTS=right", "REFUTES=no"]
    yield "classify", [*answered, *labels, "--output", f"{out}/labels"]
    scored = ["--predictions", f"{out}/answers", "--references", str(questions)]
    yield "evaluate", [*scored, "--output", f"{out}/scores"]


def _make_inputs(work: Path, times: int) -> None:
    draw = random.Random(0)
    (work / "corpus").mkdir(parents=True)
    for number in range(_FILES * times):
        articles = [
            {
                "id": f"{number}-{article}",
                "title": draw.choice(_NAMES),
                "text": " ".join(draw.choices(_NAMES, k=_WORDS)),
            }
            for article in range(_ARTICLES)
        ]
        _write_lines(work / "corpus" / f"articles_{number:04}.jsonl", articles)
    questions = [
        {"question_id": f"q{number}", "question": f"Where is {draw.choice(_NAMES)}?", "answers": ["there"]}
        for number in range(_QUESTIONS * times)
    ]
    _write_lines(work / "questions.jsonl", questions)


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    """Prints a row for each stage and size."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--work", required=True, help="folder for corpora and outputs, which are made anew")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16], help="sizes of the corpus")
    parser.add_argument("--models", default="examples/models", help="the sample's models")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    names = ("stage", "times", "elements", "bytes", "shuffled_bytes", "largest", "parts")
    print("".join(f"{name:>16}" for name in names), flush=True)
    for times in arguments.times:
        for name, argv in commands(Path(arguments.work) / f"x{times}", Path(arguments.models), times):
            crossings = run_measured(STAGES[name], argv)
            manifest = read_manifest(STORAGE, argv[argv.index("--output") + 1])
            assert manifest is not None  # the pipeline has ended
            figures = (
                sum(crossing.elements for crossing in crossings),
                sum(crossing.bytes for crossing in crossings),
                sum(crossing.bytes for crossing in crossings if crossing.is_shuffled),
                max(crossing.largest for crossing in crossings),
                len(manifest.parts),
            )
            rows.append(dict(zip(names, (name, times, *figures), strict=True)))
            print("".join(f"{value:>16}" for value in rows[-1].values()), flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump([row | {"machine": machine()} for row in rows], file, indent=1)


if __name__ == "__main__":
    main()
