"""Which runner does the work, with which of Beam's options, and on what workers."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import grpc
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    StandardOptions,
    TestOptions,
)
from apache_beam.runners.runner import create_runner

from pipelines.options import ModelSettings, S, StageSettings
from pipelines.profiles import read_profile
from pipelines.transforms.failures import WorkFailed
from rag_core.errors import UsageError

_IN_PROCESS = ("DirectRunner", "FnApiRunner", "BundleBasedDirectRunner")
_TOLD_CHARACTERS = 1_000
_DATAFLOW = ("DataflowRunner", "TestDataflowRunner")


def pipeline_options(beam_args: Sequence[str]) -> PipelineOptions:
    """Beam's options, with the in-process runner where a local one is asked for or none is named.

    Those of file systems (`--s3_endpoint_url`) hold from here on, since inputs are looked at before a pipeline is made.

    Raises:
      UsageError: no such runner.
    """
    options = PipelineOptions(list(beam_args))
    FileSystems.set_options(options)
    setup = options.view_as(SetupOptions)
    if setup.save_main_session is None:  # Dataflow would send the launcher's: workers import what they need
        setup.save_main_session = False
    runner = options.view_as(StandardOptions).runner
    if runner is not None:
        try:
            create_runner(runner)
        except (ValueError, ImportError, AttributeError) as error:
            raise UsageError(f"--runner {runner}: {' '.join(str(error).split())}") from error
    if runner == "DirectRunner":
        print("rag-beam: DirectRunner is run as Beam's in-process runner (FnApiRunner)", file=sys.stderr)
    return options


def worker_count(settings: StageSettings, beam_args: Sequence[str]) -> int:
    """Local worker processes: as many as are asked for (0: one a core), else what the devices suggest."""
    if any(argument.split("=", 1)[0] == "--direct_num_workers" for argument in beam_args):
        asked = PipelineOptions(list(beam_args)).view_as(DirectOptions).direct_num_workers
        if asked < 0:
            raise UsageError(
                f"--direct_num_workers {asked}: expected a number of processes, or 0 for one a core"
            )
        return asked or os.cpu_count() or 1
    if not isinstance(settings, ModelSettings):
        return 1
    # late: only models need torch, which takes seconds
    from pipelines.transforms.devices import default_workers

    return default_workers(settings.device)


def is_in_process(options: PipelineOptions) -> bool:
    """Whether the pipeline runs on this machine under this process."""
    return (options.view_as(StandardOptions).runner or "DirectRunner") in _IN_PROCESS


def is_dataflow(options: PipelineOptions) -> bool:
    """Whether the pipeline runs on Dataflow."""
    return options.view_as(StandardOptions).runner in _DATAFLOW


def is_waited_for(options: PipelineOptions) -> bool:
    """Whether the launcher waits for the job: not where a template takes it over, nor where asked not to."""
    if is_in_process(options):
        return True
    taken_over = options.view_as(GoogleCloudOptions).template_location is not None
    return not (taken_over or options.view_as(StandardOptions).no_wait_until_finish)


def is_dry_run(options: PipelineOptions) -> bool:
    """Whether a runner that knows dry runs shall build the job only."""
    return bool(options.view_as(TestOptions).dry_run) and is_dataflow(options)


def for_workers(
    stage: str, settings: S, beam_args: Sequence[str]
) -> tuple[S, PipelineOptions, dict[str, str]]:
    """Settings and Beam's options with what the profile says of the workers, and hints for the model's steps.

    Raises:
      UsageError: no such runner or profile, or a profile where this machine does the work.
    """
    assert isinstance(settings, StageSettings)
    options = pipeline_options(beam_args)
    if settings.profile is None:
        return (settings if is_in_process(options) else with_own_dtype(settings)), options, {}
    workers = read_profile(settings.profile).workers(stage)
    if is_in_process(options):
        raise UsageError(
            f"--profile {settings.profile}: tells the workers of a cluster, and the in-process runner has this "
            "machine's only; give --runner, or leave --profile out"
        )
    if is_dataflow(options):
        options = pipeline_options([*beam_args, *workers.dataflow_options(given=beam_args)])
    return workers.settings(settings), options, workers.hints()


def with_own_dtype(settings: S) -> S:
    """The settings with the dtype that `auto` is on this machine: workers compute with what is recorded."""
    if not isinstance(settings, ModelSettings) or settings.dtype != "auto":
        return settings
    # late: only models need torch, which takes seconds
    from rag_core.model_files import resolve_device, resolve_dtype

    dtype = str(resolve_dtype("auto", resolve_device(settings.device))).removeprefix("torch.")
    return settings.model_copy(update={"dtype": dtype})


def named_job(result: Any, options: PipelineOptions) -> str:
    """A Dataflow job and where it is found."""
    cloud = options.view_as(GoogleCloudOptions)
    place = f"https://console.cloud.google.com/dataflow/jobs/{cloud.region}/{result.job_id()}"
    return f"{result.job_id()}: {place}?project={cloud.project}"


def raise_ended_job(folder: str, error: Exception, options: PipelineOptions) -> None:
    """Raises a sentence on a cluster's job that was refused or did not end well, and of which no worker left word.

    Raises:
      WorkFailed: the error is that of such a job; of any other, nothing is raised.
    """
    if is_in_process(options):
        return
    if not is_dataflow(options):
        if isinstance(error, RuntimeError | grpc.RpcError | grpc.FutureTimeoutError):
            raise WorkFailed(
                f"{folder}: {options.view_as(StandardOptions).runner} could not have the job done "
                f"({_told(error, options)}). What is whole is kept; run the command again, it goes on"
            ) from error
        return
    from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException

    if isinstance(error, DataflowRuntimeException):
        raise WorkFailed(
            f"{folder}: Dataflow job {named_job(error.result, options)} ended as {error.result.state}; its log says "
            "why. What is whole is kept; run the command again, it goes on"
        ) from error


def _told(error: Exception, options: PipelineOptions) -> str:
    """What a runner says of a failure, without the stack traces of its workers, which are in its own log."""
    if isinstance(error, grpc.FutureTimeoutError):
        endpoint = options.view_as(PortableOptions).job_endpoint
        return f"no job server answers at {endpoint or 'the address of the one that it started'}"
    text = error.details() if isinstance(error, grpc.Call) else str(error)
    first = (text or type(error).__name__).strip().splitlines()[0]
    return first if len(first) <= _TOLD_CHARACTERS else f"{first[:_TOLD_CHARACTERS]}…"
