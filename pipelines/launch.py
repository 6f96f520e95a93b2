"""Runs a stage: options to settings, settings to data sets to make, those to a Beam pipeline."""

import argparse
import gc
import logging
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult

from pipelines.dataset.ledger import TooManyRejects, flood_message
from pipelines.dataset.lock import locked
from pipelines.dataset.manifest import Manifest, read_manifest
from pipelines.dataset.parts import flood_counts
from pipelines.dataset.target import Target, claim
from pipelines.dataset.withdrawal import withdrawn_on_mistake
from pipelines.estimates.forecasts import Estimate, Forecasts
from pipelines.exit_status import exit_status
from pipelines.filesystems import STORAGE
from pipelines.local_workers import run_beside, run_with_workers
from pipelines.options import CommandParser, S, StageSettings, add_arguments, parse
from pipelines.progress import Progress
from pipelines.runners import (
    for_workers,
    is_dataflow,
    is_dry_run,
    is_in_process,
    is_waited_for,
    named_job,
    raise_ended_job,
    worker_count,
)
from pipelines.terminal import printable_lines
from pipelines.transforms.failures import WorkFailed, forget_failure, raise_failure
from pipelines.transforms.units import MakeDataset


@dataclass(frozen=True)
class Task:
    """One data set that a stage makes, and the transform that makes it."""

    target: Target
    make: beam.PTransform


@dataclass(frozen=True)
class Command(ABC, Generic[S]):
    """What a command is called, takes, reads and writes; `run` does it.

    Attributes:
      report: a text to print when the output is there (None: the counts only).
      estimate: from settings, workers and what is known of the inputs to what the work will take,
        measured on a sample; it leaves nothing. It raises as `run` does, and gives None where
        nothing can be said beforehand (for a command without one: never).
    """

    name: str
    settings: type[S]
    summary: str
    reads: str
    writes: str
    example: str
    report: Callable[[S, Manifest], str] | None = field(default=None, kw_only=True)
    estimate: Callable[[S, int, Forecasts], Estimate | None] | None = field(default=None, kw_only=True)

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Runs the stage from a command line; returns the exit status."""
        with exit_status() as status:
            settings, beam_args = self.parse(sys.argv[1:] if argv is None else argv)
            self.run(settings, beam_args)
        return status.code

    def parse(self, argv: Sequence[str]) -> tuple[S, list[str]]:
        """Splits a command line into settings and Beam's options."""
        return parse(self.parser(), self.settings, argv)

    def parser(self) -> argparse.ArgumentParser:
        """The command line of the stage."""
        parser = CommandParser(
            prog=f"rag-beam {self.name}",
            description=f"{self.summary}\n\nreads:   {self.reads}\nwrites:  {self.writes}\n\n"
            f"example:\n  {self.example}",
            epilog="Every Apache Beam pipeline option may follow, such as --runner or --direct_num_workers.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        add_arguments(parser, self.settings)
        return parser

    @abstractmethod
    def run(self, settings: S, beam_args: Sequence[str]) -> Manifest | None:
        """Makes the output, or finds it made; returns its manifest, None where a service goes on with the work.

        Raises:
          UsageError: wrong options or inputs, or a lock (status 2).
          RagBeamError: the work failed or too many records were rejected (status 1).
        """

    def tell(self, settings: S, line: str, manifest: Manifest) -> None:
        """Prints what became of the output, and the report on it."""
        print(printable_lines(f"{self.name}: {line}"), flush=True)
        if self.report is not None:
            print(printable_lines(self.report(settings, manifest)), flush=True)


@dataclass(frozen=True)
class Stage(Command[S]):
    """A command whose work is a Beam pipeline.

    Attributes:
      prepare: from settings to the data sets to make, in order; the last one is the output. It
        raises UsageError for anything wrong with options and inputs, before any work is done.
    """

    prepare: Callable[[S, int], list[Task]]

    def run(self, settings: S, beam_args: Sequence[str]) -> Manifest | None:
        assert isinstance(settings, StageSettings)
        settings, options, hints = for_workers(self.name, settings, beam_args)
        workers = worker_count(settings, beam_args)
        options.view_as(DirectOptions).direct_num_workers = workers
        tasks = self.prepare(settings, workers)
        for task in tasks:
            if isinstance(task.make, MakeDataset):
                task.make.on_model_workers(hints)
        output = tasks[-1].target
        if is_dry_run(options):
            _add(tasks, beam.Pipeline(options=options)).run()
            print(printable_lines(f"{self.name}: {output.folder}: the job was built, and not submitted"))
            return None
        with locked(output.folder), withdrawn_on_mistake(STORAGE, output.folder):
            manifest = claim(STORAGE, output, overwrite=settings.overwrite)
            if manifest is not None:
                self.tell(settings, f"nothing to do, {output.folder} is complete", manifest)
                return manifest
            earlier = [task for task in tasks[:-1] if claim(STORAGE, task.target, overwrite=False) is None]
            manifest = _execute([*earlier, tasks[-1]], options, settings)
        if manifest is None:
            print(printable_lines(f"{self.name}: {output.folder}: handed over; the job is not waited for"))
            return None
        self.tell(settings, f"{output.folder}: {manifest.counts.summary()}", manifest)
        return manifest


def _execute(tasks: list[Task], options: PipelineOptions, settings: Any) -> Manifest | None:
    """Runs the graph of the tasks, one after the other, and returns the last one's manifest.

    Returns None where the job was handed over and is not waited for.
    """
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # what fails is told once, by us
    output = tasks[-1].target
    for task in tasks:
        forget_failure(task.target)
    try:
        with Progress([task.target for task in tasks], settings.progress):
            _run_pipeline(tasks, options)
    except Exception as error:
        raise_failure([task.target for task in tasks], error)
        raise_ended_job(output.folder, error, options)
        raise
    finally:
        gc.collect()  # the runner leaves cycles that hold what lay between its steps, and loaded models
    if not is_waited_for(options):
        return None
    manifest = read_manifest(STORAGE, output.folder)
    if manifest is not None and manifest.fingerprint == output.fingerprint:  # not one that was to be replaced
        return manifest
    for task in tasks:
        counts = flood_counts(STORAGE, task.target)
        if counts is not None:
            raise TooManyRejects(flood_message(task.target.folder, counts, task.target.max_rejects))
    raise WorkFailed(
        f"{output.folder}: the pipeline ended without a manifest; run the command again, it goes on"
    )


def _run_pipeline(tasks: list[Task], options: PipelineOptions) -> None:
    """Runs the graph where the options say: in this process, in workers of this machine, on a cluster."""
    temporary: list[str] = []

    def run(runner: FnApiRunner | None) -> None:
        pipeline = beam.Pipeline(runner=runner, options=options)
        temporary.append(pipeline.local_tempdir)
        result: PipelineResult = _add(tasks, pipeline).run()
        if is_dataflow(options) and result.has_job:
            print(f"rag-beam: Dataflow job {named_job(result, options)}", file=sys.stderr, flush=True)
        if is_waited_for(options):
            result.wait_until_finish()

    try:
        if not is_in_process(options):
            run(None)
        elif options.view_as(DirectOptions).direct_num_workers == 1:
            run_beside(run)
        else:  # a process each: threads would share one lock
            run_with_workers(run, [task.target for task in tasks])
    finally:  # Beam does so as a run ends: not where a signal ends the process before, or beside the run's thread
        for folder in temporary:
            shutil.rmtree(folder, ignore_errors=True)


def _add(tasks: list[Task], pipeline: beam.Pipeline) -> beam.Pipeline:
    """Adds the tasks in order, each begun when the one before is done."""
    done = pipeline | "Start" >> beam.Create(["start"])
    for task in tasks:
        done = done | task.make
    return pipeline
