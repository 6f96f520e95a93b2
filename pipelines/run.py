"""`rag-beam run`: the stages in order, from one file. A rerun goes on where the last one ended."""

import argparse
import contextlib
import dataclasses
import gc
import sys
import time
from collections.abc import Sequence
from typing import Any

from pipelines import (
    chunk,
    classify,
    compare,
    encode,
    evaluate,
    generate,
    index,
    retrieve,
    train_rag,
    train_retriever,
)
from pipelines.dataset.manifest import MANIFEST, Manifest, read_manifest
from pipelines.dataset.target import is_unfinished
from pipelines.estimates.forecasts import Forecasts, NothingKnown
from pipelines.estimates.sample_run import folder_bytes
from pipelines.exit_status import exit_status
from pipelines.filesystems import STORAGE
from pipelines.launch import Command, worker_count
from pipelines.nightly.nights import run_night
from pipelines.options import CommandParser, Settings, add_arguments, option, parse
from pipelines.profiles import read_profile
from pipelines.run_file import Job, Step, read_run_file
from pipelines.run_metrics import MetricsFile
from pipelines.run_plan import Outcome, PlannedStep, comparison_table, plan_table, read_plan, write_plan
from pipelines.run_report import RunReport
from pipelines.terminal import printable_lines
from rag_core.errors import UsageError
from rag_core.peak_memory import PeakMemory
from rag_core.storage import join

STAGES: dict[str, Command[Any]] = {
    module.STAGE.name: module.STAGE
    for module in (
        chunk,
        encode,
        index,
        retrieve,
        generate,
        classify,
        evaluate,
        compare,
        train_retriever,
        train_rag,
    )
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

With `nights: 3` beside `output`, each run makes a folder of its own (out/night-000012/answers) of what changed since
the last one, out/current.json tells which is each step's newest, and the last three are kept: docs/schedule.md.
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
    refresh: bool = option(
        "for a run file with nights: take in what has changed in the corpus since the last night, answer again the "
        "questions whose passages changed, and keep the other answers; without it only new questions are answered",
        False,
    )
    metrics_file: str | None = option(
        "a local file to write the run's metrics to, in Prometheus' text format: rows, seconds, exit status, last "
        "success",
        None,
        path="data",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the steps from a command line; returns the exit status."""
    with exit_status() as status:
        run_file, settings, beam_args = parse_command_line(sys.argv[1:] if argv is None else list(argv))
        report = RunReport()
        metrics = MetricsFile(settings.metrics_file, run_file) if settings.metrics_file else None
        with_nights = False

        def tell(code: int) -> None:
            if with_nights:
                print(report.summary(code), flush=True)
            if metrics is not None:
                metrics.write(report, code)

        status.at_end = tell
        job = read_job(run_file, settings)
        with_nights = job.nights is not None
        if settings.plan:
            print(printable_lines(plan_table(plan(job, beam_args))))
        elif with_nights:
            run_night(job, beam_args, STAGES["compare"], report, refresh=settings.refresh)
        else:
            run(job, beam_args, report)
    return status.code


def parse_command_line(arguments: Sequence[str]) -> tuple[str, RunSettings, list[str]]:
    """The run file, our options and Beam's.

    Raises:
      UsageError: an option that neither we nor Beam know, or a value that does not fit.
    """
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
    return parser.parse_known_args(arguments)[0].run_file, settings, beam_args


def read_job(path: str, settings: RunSettings) -> Job:
    """The steps of a run file that `--only` leaves, validated before the first one begins.

    Raises:
      UsageError: as `read_run_file`, or an option that has no meaning with or without nights.
    """
    job = read_run_file(path, STAGES, output=settings.output, only=settings.only)
    if job.nights is None and settings.refresh:
        raise UsageError(f"--refresh: {path} keeps no nights; write nights: 3, say, beside its output")
    if job.nights is not None and (settings.only or settings.plan):
        raise UsageError(
            f"--{'only' if settings.only else 'plan'}: {path} keeps nights, which are made whole; use a copy of it "
            "without nights, and with another output"
        )
    return job


def run(job: Job, beam_args: Sequence[str], report: RunReport) -> None:
    """Runs the steps in order; what is complete is not done again. Compares with the plan, where one was made.

    A step whose job is handed over and not waited for, as by a template, is the last one.

    Raises:
      RagBeamError: as the step that failed raised it, its name before the message.
    """
    estimates = read_plan(job.output)
    outcomes: dict[str, Outcome] = {}
    for number, step in enumerate(job.steps, start=1):
        print(printable_lines(f"[{number}/{len(job.steps)}] {step.name}"), flush=True)
        before, resumed = _manifest_bytes(step.folder), is_unfinished(STORAGE, step.folder)
        begin = time.monotonic()
        with step.named(), PeakMemory() as peak:
            manifest = step.stage.run(step.settings, [*beam_args, *step.beam_args])
        if manifest is None:
            print("    the steps after it read its output: run this again when the job has ended", flush=True)
            return
        seconds = time.monotonic() - begin
        print(f"    {seconds:.1f} s", flush=True)
        outcome = _outcome(step.folder, manifest)
        made = step.settings.overwrite or _manifest_bytes(step.folder) != before
        report.add(step.name, step.stage.name, manifest, made=made, seconds=seconds)
        if made:
            outcome = dataclasses.replace(
                outcome, seconds=seconds, memory_bytes=peak.anonymous, resumed=resumed
            )
        outcomes[step.name] = outcome
    if estimates is not None:
        print(printable_lines(f"\n{comparison_table(estimates, outcomes)}"), flush=True)


def plan(job: Job, beam_args: Sequence[str]) -> list[PlannedStep]:
    """What a run would find, and what it would take: measured on samples, noted in `plan.json`.

    Raises:
      RagBeamError: an input is missing or a model cannot be loaded, as the step would raise it.
    """
    forecasts = Forecasts()
    planned: list[PlannedStep] = []
    for number, step in enumerate(job.steps, start=1):
        print(printable_lines(f"[{number}/{len(job.steps)}] {step.name}"), file=sys.stderr, flush=True)
        with step.named():
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
            workers = worker_count(step.settings, [*beam_args, *step.beam_args])
            estimate = stage.estimate(step.settings, workers, forecasts)
    if estimate is not None:
        notes = (*estimate.notes, *_workers_note(step))
        estimate = dataclasses.replace(estimate, memory_bytes=peak.anonymous, notes=notes)
    forecasts.add(step.folder, estimate)
    state = "unfinished" if is_unfinished(STORAGE, step.folder) else "to do"
    return PlannedStep(step.name, stage.name, state, estimate=estimate)


def _workers_note(step: Step) -> list[str]:
    """Where a step with a profile will run: the estimate is of the device at hand."""
    profile = step.settings.profile
    return [f"to run on {read_profile(profile).workers(step.stage.name).told()}"] if profile else []


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


if __name__ == "__main__":
    raise SystemExit(main())
