"""`rag-beam run`: the stages in order, from one file. A rerun goes on where the last one ended."""

import argparse
import contextlib
import dataclasses
import gc
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pydantic
import yaml

from pipelines import chunk, classify, encode, evaluate, generate, index, retrieve, train_rag, train_retriever
from pipelines.dataset.manifest import MANIFEST, Manifest, read_manifest
from pipelines.dataset.target import is_unfinished
from pipelines.estimates.forecasts import Forecasts, NothingKnown
from pipelines.estimates.sample_run import folder_bytes
from pipelines.filesystems import STORAGE, is_local
from pipelines.launch import Command, exit_status, worker_count
from pipelines.options import (
    CommandParser,
    Settings,
    StageSettings,
    add_arguments,
    option,
    parse,
    path_kind,
    validated,
)
from pipelines.run_plan import Outcome, PlannedStep, comparison_table, plan_table, read_plan, write_plan
from rag_core.errors import RagBeamError, UsageError
from rag_core.peak_memory import PeakMemory
from rag_core.storage import join

STAGES: dict[str, Command[Any]] = {
    module.STAGE.name: module.STAGE
    for module in (chunk, encode, index, retrieve, generate, classify, evaluate, train_retriever, train_rag)
}

_EXAMPLE = """\
example of a run file (paths are relative to it; the name of a step stands for its output, and leads into it, as
in retriever/passage_encoder):

  output: out
  options: {num_threads: 2}
  steps:
    passages:   {stage: chunk, input: [corpus/*.jsonl]}
    embeddings: {stage: encode, passages: passages, encoder: models/passage_encoder}
    index:      {stage: index, embeddings: embeddings, passages: passages}
    retrievals: {stage: retrieve, index: index, questions: questions.jsonl, encoder: models/rag, n_docs: 5}
    answers:    {stage: generate, retrievals: retrievals, model: models/rag, model_type: rag_token}
    scores:     {stage: evaluate, predictions: answers, references: questions.jsonl}
"""


class RunSettings(Settings):
    """Options of `rag-beam run` besides the run file."""

    only: list[str] | None = option("run these steps only, named by step or by stage", None)
    output: str | None = option(
        "folder for the steps' outputs, in place of the run file's", None, path="data"
    )
    plan: bool = option(
        "measure samples, print what each step would take, note it in plan.json beside the steps' outputs, and do "
        "nothing else",
        False,
    )


class RunFile(Settings):
    """The content of a run file.

    Attributes:
      output: folder that gets a folder for each step.
      options: given to every step whose stage has them.
      steps: by name, in the order they are run: `stage` and the stage's options.
    """

    output: str
    options: dict[str, Any] = pydantic.Field(default_factory=dict)
    steps: dict[str, dict[str, Any]] = pydantic.Field(min_length=1)


@dataclass(frozen=True)
class Step:
    """A stage with its settings, under a name of its own."""

    name: str
    stage: Command[Any]
    settings: StageSettings

    @property
    def folder(self) -> str:
        """Its output."""
        return self.settings.output


@dataclass(frozen=True)
class Job:
    """The steps to run, and the folder that holds a folder for each."""

    output: str
    steps: list[Step]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the steps from a command line; returns the exit status."""
    with exit_status() as status:
        arguments = sys.argv[1:] if argv is None else list(argv)
        parser = CommandParser(
            prog="rag-beam run",
            description="Runs stages one after the other in this process.\n\n" + _EXAMPLE,
            epilog="Every Apache Beam pipeline option may follow.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.add_argument("run_file", help="a YAML file")
        add_arguments(parser, RunSettings)
        settings, beam_args = parse(parser, RunSettings, arguments)
        run_file = parser.parse_known_args(arguments)[0].run_file
        job = read_job(run_file, settings)
        if settings.plan:
            print(plan_table(plan(job, beam_args)))
        else:
            run(job, beam_args)
    return status.code


def read_job(path: str, settings: RunSettings) -> Job:
    """The steps of a run file that `--only` leaves, validated before the first one begins.

    Raises:
      UsageError: the file cannot be read or is not a run file; a step's stage or option does not
        exist or does not fit; `--only` names nothing.
    """
    try:
        with STORAGE.open(path) as file:
            content = yaml.safe_load(file.read())
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such run file") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: is not YAML: {error}") from error
    if not isinstance(content, Mapping):
        raise UsageError(f"{path}: expected a mapping with output and steps, see rag-beam run --help")
    run_file = validated(RunFile, content, where=path)
    base = os.path.dirname(path) or "."
    output = settings.output or _relative_to(base, run_file.output)
    outputs = {name: join(output, name) for name in run_file.steps}
    steps = [
        _step(path, base, name, fields, run_file.options, outputs) for name, fields in run_file.steps.items()
    ]
    wanted = settings.only
    if wanted is None:
        return Job(output, steps)
    known = {step.name for step in steps} | {step.stage.name for step in steps}
    for name in wanted:
        if name not in known:
            raise UsageError(f"--only {name}: {path} has the steps {', '.join(outputs)}")
    return Job(output, [step for step in steps if step.name in wanted or step.stage.name in wanted])


def run(job: Job, beam_args: Sequence[str]) -> None:
    """Runs the steps in order; what is complete is not done again. Compares with the plan, where one was made.

    Raises:
      RagBeamError: as the step that failed raised it, its name before the message.
    """
    estimates = read_plan(job.output)
    outcomes: dict[str, Outcome] = {}
    for number, step in enumerate(job.steps, start=1):
        print(f"[{number}/{len(job.steps)}] {step.name}", flush=True)
        before, resumed = _manifest_bytes(step.folder), is_unfinished(STORAGE, step.folder)
        begin = time.monotonic()
        with _named(step), PeakMemory() as peak:
            manifest = step.stage.run(step.settings, beam_args)
        seconds = time.monotonic() - begin
        print(f"    {seconds:.1f} s", flush=True)
        outcome = _outcome(step.folder, manifest)
        if step.settings.overwrite or _manifest_bytes(step.folder) != before:
            outcome = dataclasses.replace(
                outcome, seconds=seconds, memory_bytes=peak.anonymous, resumed=resumed
            )
        outcomes[step.name] = outcome
    if estimates is not None:
        print(f"\n{comparison_table(estimates, outcomes)}", flush=True)


def plan(job: Job, beam_args: Sequence[str]) -> list[PlannedStep]:
    """What a run would find, and what it would take: measured on samples, noted in `plan.json`.

    Raises:
      RagBeamError: an input is missing or a model cannot be loaded, as the step would raise it.
    """
    forecasts = Forecasts()
    planned: list[PlannedStep] = []
    for number, step in enumerate(job.steps, start=1):
        print(f"[{number}/{len(job.steps)}] {step.name}", file=sys.stderr, flush=True)
        with _named(step):
            planned.append(_planned(step, beam_args, forecasts))
        gc.collect()  # as after a step that is run: the memory of the next one is measured from there
    write_plan(job.output, planned)
    return planned


def _planned(step: Step, beam_args: Sequence[str], forecasts: Forecasts) -> PlannedStep:
    manifest = read_manifest(STORAGE, step.folder)
    stage = step.stage
    if manifest is not None:
        return PlannedStep(step.name, stage.name, "complete", outcome=_outcome(step.folder, manifest))
    estimate = None
    if stage.estimate is not None:
        with contextlib.suppress(NothingKnown), PeakMemory() as peak:
            estimate = stage.estimate(step.settings, worker_count(step.settings, beam_args), forecasts)
    if estimate is not None:
        estimate = dataclasses.replace(estimate, memory_bytes=peak.anonymous)
    forecasts.add(step.folder, estimate)
    state = "unfinished" if is_unfinished(STORAGE, step.folder) else "to do"
    return PlannedStep(step.name, stage.name, state, estimate=estimate)


def _outcome(folder: str, manifest: Manifest) -> Outcome:
    """What lies in the folder of a finished step; of an index, vectors and passages are the same rows."""
    rows = manifest.details["index"]["rows"] if manifest.table == "mips_index" else manifest.rows
    return Outcome(rows, len(manifest.parts), folder_bytes(folder))


def _manifest_bytes(folder: str) -> bytes | None:
    """By which it is told whether a step has made something."""
    try:
        with STORAGE.open(join(folder, MANIFEST)) as file:
            return file.read()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _named(step: Step) -> Iterator[None]:
    """Puts the step's name before the message of an error."""
    try:
        yield
    except RagBeamError as error:
        error.args = (f"{step.name}: {error}",)
        raise


def _step(
    path: str,
    base: str,
    name: str,
    fields: Mapping[str, Any],
    common: Mapping[str, Any],
    outputs: Mapping[str, str],
) -> Step:
    where = f"{path}: step {name}"
    if fields.get("stage") not in STAGES:
        raise UsageError(f"{where}: stage is {fields.get('stage')!r}, expected one of {', '.join(STAGES)}")
    stage = STAGES[fields["stage"]]
    known = stage.settings.model_fields
    values = {key: value for key, value in common.items() if key in known}
    values |= {key: value for key, value in fields.items() if key != "stage"}
    if "output" in values:
        raise UsageError(
            f"{where}: has an output of its own; a step's output is its name under the run's output"
        )
    for key, value in values.items():
        kind = path_kind(known[key]) if key in known else None
        if kind is not None:
            several = isinstance(value, list)
            resolved = [_resolve(base, str(item), kind, outputs) for item in (value if several else [value])]
            values[key] = resolved if several else resolved[0]
    return Step(name, stage, validated(stage.settings, values | {"output": outputs[name]}, where=where))


def _resolve(base: str, value: str, kind: str, outputs: Mapping[str, str]) -> str:
    step, _, below = value.partition("/")
    if step in outputs:
        return join(outputs[step], below) if below else outputs[step]
    relative = _relative_to(base, value)
    if kind == "model" and not STORAGE.exists(relative):
        return value  # a hub id
    return relative


def _relative_to(base: str, path: str) -> str:
    return path if os.path.isabs(path) or not is_local(path) else os.path.normpath(os.path.join(base, path))


if __name__ == "__main__":
    raise SystemExit(main())
