"""Profiles: what the workers of a cluster are, a stage at a time, from one `--profile`.

A launching machine often has no GPU and other cores than the workers. So what depends on the workers
is said by a profile and not found out here: precision, threads, batches; and, on Dataflow, machines,
accelerators and the resource hints of the step that runs the model.
"""

from collections.abc import Iterable
from typing import Any, Literal

import pydantic
import yaml

from pipelines.filesystems import STORAGE
from pipelines.options import ModelSettings, S, Settings
from rag_core.errors import UsageError

Pipeline = Literal["chunk", "encode", "index", "retrieve", "generate", "classify", "evaluate", "compare"]

# threads of Beam's harness where a worker has one process: one unit is computed while another is at its files
_HARNESS_THREADS = 2


class Workers(Settings):
    """The workers of a stage.

    Attributes:
      machine_type: of the workers that run the model, or of all where there is no accelerator, as Compute
        Engine calls it.
      plain_machine_type: of the workers of the other steps, where only some have an accelerator.
      max_workers: machines at most. An exact search of few questions is divided among as many.
      threads: CPU threads of a worker process.
      one_process: one process a machine, which loads the model once; else one a core.
      accelerator: the GPU of each machine, as Compute Engine calls it; None: none.
      accelerate: `steps`: only the steps that run a model are given machines with the accelerator, by
        resource hints; `job`: all workers of the stage have it, by a service option.
      min_ram: of a machine that runs a model, as a resource hint (`24GB`).
      dtype: what `--dtype auto` means on these workers.
      batch_tokens: what `--batch_tokens` is where nobody says and the stage has no fixed default.
      disk_gb: of a machine; None: the service decides.
    """

    machine_type: str
    plain_machine_type: str = "n2-standard-4"
    max_workers: int = pydantic.Field(ge=1)
    threads: int = pydantic.Field(ge=1)
    one_process: bool = True
    accelerator: str | None = None
    accelerate: Literal["steps", "job"] = "steps"
    min_ram: str | None = pydantic.Field(None, pattern=r"^\d+(\.\d+)?(B|[KMGTP]i?B)$")
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_tokens: int = pydantic.Field(2_048, ge=1)
    disk_gb: int | None = pydantic.Field(None, ge=1)

    @pydantic.model_validator(mode="after")
    def _one_process_a_gpu(self) -> "Workers":
        if self.accelerator is not None and not self.one_process:
            raise ValueError("one_process is false where accelerator is given; a GPU serves one process")
        return self

    def settings(self, settings: S) -> S:
        """The settings of a stage with what these workers decide, where its own say `auto` or nothing."""
        fields = type(settings).model_fields
        decided: dict[str, Any] = {
            "num_threads": self.threads,
            "batch_tokens": self.batch_tokens,
            "shard_tiles": self.max_workers,
        }
        update = {
            name: value
            for name, value in decided.items()
            if name in fields and name not in settings.model_fields_set and fields[name].default is None
        }
        if isinstance(settings, ModelSettings) and settings.dtype == "auto":
            update["dtype"] = self.dtype
        return settings.model_copy(update=update) if update else settings

    def hints(self) -> dict[str, str]:
        """Resource hints of a step that runs a model; none where all workers of the stage are alike.

        With a hint the service chooses each step's machines by itself, which excludes the service option
        that gives the whole job an accelerator.
        """
        if self._alike:
            return {}
        hints = {}
        if self.accelerator is not None:
            hints["accelerator"] = self._accelerator(f"machine_type:{self.machine_type}")
        if self.min_ram is not None:
            hints["min_ram"] = self.min_ram
        if self.one_process:
            hints["max_active_bundles_per_worker"] = "1"
        return hints

    def dataflow_options(self, given: Iterable[str]) -> list[str]:
        """Options of the Dataflow runner, without those that a command line has `given` itself."""
        machine = self.plain_machine_type if self.accelerator and not self._alike else self.machine_type
        options = {"machine_type": machine, "max_num_workers": str(self.max_workers)}
        if self.disk_gb is not None:
            options["disk_size_gb"] = str(self.disk_gb)
        if self.one_process:
            options["number_of_worker_harness_threads"] = str(_HARNESS_THREADS)
        names = {argument.split("=", 1)[0].removeprefix("--") for argument in given}
        added = [f"--{name}={value}" for name, value in options.items() if name not in names]
        if self.one_process:  # lists, to which a command line's own are added
            added.append("--experiments=no_use_multiple_sdk_containers")
        if self.accelerator is not None and self.accelerate == "job":
            added.append(f"--dataflow_service_options=worker_accelerator={self._accelerator()}")
        return added

    def told(self) -> str:
        """For a plan: `up to 8 g2-standard-8, each with an nvidia-l4 for the model's steps`."""
        machines = f"up to {self.max_workers} {self.machine_type}"
        if self.accelerator is None:
            return machines
        where = " for the model's steps" if self.accelerate == "steps" else ""
        return f"{machines}, each with one {self.accelerator}{where}"

    @property
    def _alike(self) -> bool:
        """Whether no step asks for machines of its own."""
        return self.accelerate == "job" or (self.accelerator is None and self.min_ram is None)

    def _accelerator(self, *more: str) -> str:
        return ";".join([f"type:{self.accelerator}", "count:1", *more, "install-nvidia-driver"])


class Profile(Settings):
    """The workers of each stage.

    Attributes:
      default: of the stages that `stages` does not name.
      stages: by the stage's name.
    """

    default: Workers
    stages: dict[Pipeline, Workers] = pydantic.Field(default_factory=dict)

    def workers(self, stage: str) -> Workers:
        """Those of a stage."""
        return self.stages.get(stage, self.default)  # type: ignore[call-overload]


_MODEL_STAGES: tuple[Pipeline, ...] = ("encode", "retrieve", "generate", "classify")
# Python's own work: a process a core
_PYTHON = Workers(machine_type="n2-standard-8", max_workers=16, threads=1, one_process=False)
_INDEX = Workers(machine_type="n2-highmem-8", max_workers=16, threads=8)
_CPU = Workers(machine_type="n2-standard-16", max_workers=16, threads=16)
_L4 = Workers(
    machine_type="g2-standard-8",
    max_workers=8,
    threads=8,
    accelerator="nvidia-l4",
    min_ram="24GB",
    dtype="bfloat16",
    batch_tokens=65_536,
)


def _profile(model_workers: Workers) -> Profile:
    return Profile(default=_PYTHON, stages={"index": _INDEX} | dict.fromkeys(_MODEL_STAGES, model_workers))


PROFILES = {
    "cpu": _profile(_CPU),
    "l4": _profile(_L4),
    "l4_job": _profile(_L4.model_copy(update={"accelerate": "job"})),
}


def read_profile(name: str) -> Profile:
    """A profile of `PROFILES`, or of a YAML file with the same fields.

    Raises:
      UsageError: there is no such profile or file, or the file does not hold one.
    """
    if name in PROFILES:
        return PROFILES[name]
    try:
        with STORAGE.open(name) as file:
            content = yaml.safe_load(file.read())
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(
            f"--profile {name}: expected {', '.join(PROFILES)} or a YAML file, and there is no such file"
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(
            f"--profile {name}: is not YAML ({' '.join(str(error).split())}); mend it"
        ) from error
    try:
        return Profile.model_validate(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"--profile {name}: {where}: {message}; expected default and stages, see deploy/dataflow/profile.yaml"
        ) from error
