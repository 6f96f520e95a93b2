"""Which runner does the work, with which of Beam's options, and on what workers."""

import os
import sys
from collections.abc import Sequence

from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    TestOptions,
)
from apache_beam.runners.runner import create_runner

from pipelines.options import ModelSettings, S, StageSettings
from pipelines.profiles import read_profile
from rag_core.errors import UsageError

_IN_PROCESS = ("DirectRunner", "FnApiRunner", "BundleBasedDirectRunner")
_DATAFLOW = ("DataflowRunner", "TestDataflowRunner")


def pipeline_options(beam_args: Sequence[str]) -> PipelineOptions:
    """Beam's options, with the in-process runner where a local one is asked for or none is named.

    Raises:
      UsageError: no such runner.
    """
    options = PipelineOptions(list(beam_args))
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


def is_template(options: PipelineOptions) -> bool:
    """Whether a launcher of Dataflow's templates takes the job over: then there is no job to wait for."""
    return options.view_as(GoogleCloudOptions).template_location is not None


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
