"""A run file: from YAML to steps, each a stage with its settings, all validated before the first one begins."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pydantic
import yaml

from pipelines.filesystems import STORAGE, is_local
from pipelines.launch import Command
from pipelines.options import Settings, StageSettings, beam_arguments, path_kind, validated
from rag_core.errors import RagBeamError, UsageError
from rag_core.storage import join

CHANGES = "_changes"  # after a step's name: what became of its answers or labels since the night before


class RunFile(Settings):
    """The content of a run file.

    Attributes:
      output: folder that gets a folder for each step.
      nights: the last so many runs are kept, each in a folder of its own below `output`; None: there is one run,
        which a rerun completes.
      options: given to every step whose stage has them.
      steps: by name, in the order they are run: `stage`, the stage's options, and under `beam` Beam's options for
        this step, which go before those of the command line.
    """

    output: str
    nights: int | None = pydantic.Field(None, ge=1)
    options: dict[str, Any] = pydantic.Field(default_factory=dict)
    steps: dict[str, dict[str, Any]] = pydantic.Field(min_length=1)


@dataclass(frozen=True)
class Step:
    """A stage with its settings, under a name of its own.

    Attributes:
      beam_args: Beam's options for this step, as on a command line.
    """

    name: str
    stage: Command[Any]
    settings: StageSettings
    beam_args: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Its output."""
        return self.settings.output

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Puts the step's name before the message of an error."""
        try:
            yield
        except RagBeamError as error:
            error.args = (f"{self.name}: {error}",)
            raise


@dataclass(frozen=True)
class Job:
    """The steps to run, and the folder that holds a folder for each.

    Attributes:
      nights: as in `RunFile`.
      step_at: from a step's name and the folder of each step to the step as it is then.
    """

    output: str
    steps: list[Step]
    nights: int | None
    step_at: Callable[[str, Mapping[str, str]], Step]


def read_run_file(
    path: str, stages: Mapping[str, Command[Any]], *, output: str | None, only: Iterable[str] | None
) -> Job:
    """The steps of a run file that `only` leaves.

    Args:
      stages: what a step's `stage` may name.
      output: in place of the run file's.
      only: names of steps or of stages; None: all.

    Raises:
      UsageError: the file cannot be read or is not a run file; a step's stage or option does not exist or does
        not fit; a step reads what a later one makes; `only` names nothing.
    """
    run_file = _content(path)
    base = os.path.dirname(path) or "."
    output = output or _relative_to(base, run_file.output)
    if STORAGE.exists(output) and not STORAGE.is_folder(output):
        raise UsageError(f"--output {output}: is a file; give a folder for the steps' outputs")
    outputs = {name: join(output, name) for name in run_file.steps}
    step_at = functools.partial(_step, path, base, run_file, stages)
    steps = [step_at(name, outputs) for name in outputs]
    if only is None:
        return Job(output, steps, run_file.nights, step_at)
    known = {step.name for step in steps} | {step.stage.name for step in steps}
    for name in only:
        if name not in known:
            raise UsageError(f"--only {name}: {path} has the steps {', '.join(outputs)}")
    chosen = [step for step in steps if step.name in only or step.stage.name in only]
    return Job(output, chosen, run_file.nights, step_at)


def _content(path: str) -> RunFile:
    if STORAGE.is_folder(path):
        raise UsageError(f"{path}: is a folder; give a run file")
    try:
        with STORAGE.open(path) as file:
            content = yaml.safe_load(file.read())
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such run file") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path}: is not YAML ({' '.join(str(error).split())}); mend it there") from error
    if not isinstance(content, Mapping):
        raise UsageError(f"{path}: expected a mapping with output and steps, see rag-beam run --help")
    try:
        run_file = RunFile.model_validate(dict(content))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: {where}: {first['msg']}; see rag-beam run --help") from error
    for name in run_file.steps:
        if not name or "/" in name or name in (".", ".."):
            raise UsageError(
                f"{path}: step {name!r}: a step's name is that of its folder, so it has no slash"
            )
        if run_file.nights and name.endswith(CHANGES) and name.removesuffix(CHANGES) in run_file.steps:
            raise UsageError(
                f"{path}: step {name!r}: is what the changes of {name.removesuffix(CHANGES)} are called; give it "
                "another name"
            )
    return run_file


def _step(
    path: str,
    base: str,
    run_file: RunFile,
    stages: Mapping[str, Command[Any]],
    name: str,
    outputs: Mapping[str, str],
) -> Step:
    where = f"{path}: step {name}"
    fields = run_file.steps[name]
    stage_name = fields.get("stage")
    if not isinstance(stage_name, str) or stage_name not in stages:
        raise UsageError(f"{where}: stage is {stage_name!r}, expected one of {', '.join(stages)}")
    stage = stages[stage_name]
    known = stage.settings.model_fields
    values = {key: value for key, value in run_file.options.items() if key in known}
    values |= {key: value for key, value in fields.items() if key not in ("stage", "beam")}
    if "output" in values:
        raise UsageError(
            f"{where}: has an output of its own; a step's output is its name under the run's output"
        )
    not_yet = list(outputs)[list(outputs).index(name) :]
    for key, value in values.items():
        kind = path_kind(known[key]) if key in known else None
        if kind is not None and value is not None:
            several = isinstance(value, list)
            named = [str(item) for item in (value if several else [value])]
            if any("\0" in item for item in named):
                raise UsageError(f"{where}: --{key}: holds a NUL character, which no path can; take it out")
            _check_made_before(f"{where}: --{key}", named, not_yet)
            resolved = [_resolve(base, item, kind, outputs) for item in named]
            values[key] = resolved if several else resolved[0]
    settings = validated(stage.settings, values | {"output": outputs[name]}, where=where)
    return Step(name, stage, settings, tuple(beam_arguments(fields.get("beam", {}), f"{where}: beam")))


def _check_made_before(where: str, values: Sequence[str], not_yet: Sequence[str]) -> None:
    """Refuses what leads into the output of the step itself, the first of `not_yet`, or of a later one."""
    for value in values:
        step = value.partition("/")[0]
        if step in not_yet:
            made = "this step itself" if step == not_yet[0] else "a later step"
            raise UsageError(
                f"{where} {value}: is made by {made}; put the step that makes it before, or write ./{value} for a file"
            )


def _resolve(base: str, value: str, kind: str, outputs: Mapping[str, str]) -> str:
    step, _, below = value.partition("/")
    if step in outputs:
        return join(outputs[step], below) if below else outputs[step]
    relative = _relative_to(base, value)
    if kind == "model" and not STORAGE.exists(relative):
        return value  # a hub id
    return relative


def _relative_to(base: str, path: str) -> str:
    if os.path.isabs(path) or not is_local(path):
        return path
    scheme, mark, folder = base.rpartition("://")  # the run file itself may lie on a store
    return scheme + mark + os.path.normpath(os.path.join(folder, path))
