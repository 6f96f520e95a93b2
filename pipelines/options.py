"""Options: declared once, as fields of a frozen settings class, for the command line and run.yaml.

A stage's settings class says each option's name, type, default, help and whether it changes a
result. `add_arguments` makes the command line of it, `validated` the frozen settings with errors
that name the option.
"""

import argparse
import difflib
import os
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn, TypeVar, Union

import pydantic
from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser
from pydantic.fields import FieldInfo

from rag_core.errors import UsageError
from rag_core.storage import is_local

PathKind = Literal["data", "model"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def option(
    help_text: str,
    default: Any = ...,
    *,
    changes_result: bool = True,
    path: PathKind | None = None,
    **constraints: Any,
) -> Any:
    """An option of a stage.

    Args:
      help_text: shown by --help.
      default: `...` makes the option required.
      changes_result: whether another value gives another result or other units; such options are
        part of the data set's fingerprint. Paths, devices, threads and progress are not.
      path: what the value leads to, where it is a path; such options do not count by their value.
      **constraints: pydantic's (`ge`, `gt`, `le`, …).
    """
    extra = {"changes_result": changes_result and path is None, "path": path}
    return pydantic.Field(default, description=help_text, json_schema_extra=extra, **constraints)


class Settings(pydantic.BaseModel):
    """Frozen and validated; unknown names are refused."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )

    def result_settings(self) -> dict[str, Any]:
        """The options that change a result, as JSON values."""
        values = self.model_dump(mode="json")
        return {
            name: values[name] for name, field in type(self).model_fields.items() if changes_result(field)
        }


class StageSettings(Settings):
    """What every stage takes."""

    output: str = option("folder to write; made where it does not exist", path="data")
    overwrite: bool = option(
        "start afresh where the folder holds another result", False, changes_result=False
    )
    max_rejects: float = option(
        "share of bad records that is accepted, checked at the end over at least 100 records",
        0.01,
        changes_result=False,
        ge=0,
        le=1,
    )
    progress: Literal["auto", "none"] = option(
        "auto: a bar on a terminal, else a line now and then", "auto", changes_result=False
    )
    num_threads: int | None = option(
        "CPU threads of a worker process; default: the cores, shared among --direct_num_workers",
        None,
        changes_result=False,
        ge=1,
    )
    device: str = option(
        "auto, cpu, cuda or cuda:N; matters to stages with a model", "auto", changes_result=False
    )
    dtype: Dtype = option(
        "of a model's weights and arithmetic; matters to stages with a model", "auto", changes_result=False
    )
    profile: str | None = option(
        "what the workers of a cluster are: cpu, l4, l4_job, or a YAML file (docs/dataflow.md); default: as the "
        "launching machine",
        None,
        changes_result=False,
    )

    @pydantic.field_validator("output")
    @classmethod
    def _output_can_be_told(cls, output: str) -> str:
        try:
            output.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                "its name is not UTF-8, so that no manifest could tell it; give another"
            ) from error
        return output

    @pydantic.field_validator("device")
    @classmethod
    def _device_is_a_name(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
            raise ValueError("expected auto, cpu, cuda or cuda:N")
        return device

    @pydantic.model_validator(mode="after")
    def _output_lies_apart(self) -> "StageSettings":
        """What is read must outlive --overwrite, and what is written must not be read by the next run."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if path_kind(field) is None or name == "output" or not value:
                continue
            for path in value if isinstance(value, list) else [value]:
                if lies_within(self.output, path) or lies_within(path, self.output):
                    raise ValueError(
                        f"--output {self.output}: lies within --{name} {path}, or that within it; give a folder apart "
                        "from what is read"
                    )
        return self


class ModelSettings(StageSettings):
    """What a stage that runs a model takes besides."""

    dtype: Dtype = option(
        "of the model's weights and arithmetic; auto: float32 on a CPU, else bfloat16", "auto"
    )
    allow_pickle: bool = option(
        "load weights from pickles too; unpickling runs code of whoever made them",
        False,
        changes_result=False,
    )


def changes_result(field: FieldInfo) -> bool:
    """Whether the option is part of the fingerprint."""
    extra = field.json_schema_extra
    return bool(isinstance(extra, dict) and extra.get("changes_result"))


def path_kind(field: FieldInfo) -> PathKind | None:
    """What the option's value leads to; None where it is no path."""
    extra = field.json_schema_extra
    return extra.get("path") if isinstance(extra, dict) else None  # type: ignore[return-value]


def lies_within(path: str, folder: str) -> bool:
    """Whether a path is a folder, or below it, however both are spelt; nothing needs to be there."""
    inner, outer = (os.path.realpath(name) if is_local(name) else name.rstrip("/") for name in (path, folder))
    return f"{inner}/".startswith(f"{outer.rstrip('/')}/")


S = TypeVar("S", bound=Settings)


class CommandParser(argparse.ArgumentParser):
    """argparse that tells a mistake in one sentence, as the validation of settings does."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError in place of printing the usage and ending the process."""
        raise UsageError(message)


class _BeamParser(_BeamArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def add_arguments(parser: argparse.ArgumentParser, settings: type[Settings]) -> None:
    """Adds each field of a settings class as `--name`."""
    for name, field in settings.model_fields.items():
        help_text = (field.description or "").replace("%", "%%")
        if field.is_required():
            help_text += " (required)"
        elif field.default not in (None, False, "", ()):
            help_text += f" (default {field.default})"
        kind = plain_type(field.annotation)
        if kind is bool:
            parser.add_argument(f"--{name}", action="store_true", default=None, help=help_text)
            continue
        choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else None
        metavar = "{" + ",".join(choices) + "}" if choices else name.upper()
        nargs = "+" if takes_several(field) else None
        parser.add_argument(f"--{name}", nargs=nargs, metavar=metavar, default=None, help=help_text)


def parse(parser: argparse.ArgumentParser, settings: type[S], argv: Sequence[str]) -> tuple[S, list[str]]:
    """Splits a command line into our settings and Beam's options.

    Raises:
      UsageError: a value does not fit, a required option is missing, or an option that neither we
        nor Beam know (the message names the nearest one).
    """
    ours, others = parser.parse_known_args(list(argv))
    values = {
        name: value
        for name, value in vars(ours).items()
        if value is not None and name in settings.model_fields
    }
    result = validated(settings, values)
    beam_names, unknown = _split_beam(others)
    if unknown:
        raise UsageError(_unknown_option(unknown[0], [*settings.model_fields, *beam_names]))
    return result, others


def validated(settings: type[S], values: Mapping[str, Any], where: str = "") -> S:
    """Settings of these values, which may come from the command line or from YAML.

    Raises:
      UsageError: names the option, what it got and what it expects. `where` leads the message.
    """
    try:
        return settings.model_validate(dict(values))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        prefix = f"{where}: " if where else ""
        if first["type"] == "missing":
            raise UsageError(f"{prefix}--{name} is required") from error
        if first["type"] == "extra_forbidden":
            raise UsageError(prefix + _unknown_option(f"--{name}", list(settings.model_fields))) from error
        message = first["msg"].removeprefix("Value error, ")
        if not name:  # about several options together: the message names them
            raise UsageError(prefix + message) from error
        raise UsageError(f"{prefix}--{name} {_shown(first['input'])}: {message}") from error


def beam_arguments(values: Any, where: str) -> list[str]:
    """Beam's options by name, as they stand in YAML, as arguments of a command line.

    Raises:
      UsageError: not a mapping, no option of Beam's, or a value that does not fit. `where` leads the message.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: expected Beam's options by name, as in {{parallelism: 2}}")
    arguments = []
    for name, value in values.items():
        for item in value if isinstance(value, list) else [value]:
            arguments.append(f"--{name}" if item is True else f"--{name}={item}")
    try:
        beam_names, unknown = _split_beam(arguments)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    if unknown:
        raise UsageError(f"{where}: {_unknown_option(unknown[0], sorted(beam_names))}")
    return arguments


def beam_option_names() -> set[str]:
    """Every option that Beam's own parsers take, without the dashes."""
    parser = _beam_parser()
    return {name[2:] for action in parser._actions for name in action.option_strings if name.startswith("--")}


def _beam_parser() -> argparse.ArgumentParser:
    parser = _BeamParser(allow_abbrev=False, add_help=False)
    for options in PipelineOptions.__subclasses__():
        if options.__module__.startswith("apache_beam."):
            options._add_argparse_args(parser)
    return parser


def _split_beam(arguments: list[str]) -> tuple[set[str], list[str]]:
    """Beam's option names, and the arguments that are not Beam's."""
    if not arguments:
        return set(), []
    _, unknown = _beam_parser().parse_known_args(arguments)
    return beam_option_names(), unknown


def _unknown_option(argument: str, known: list[str]) -> str:
    name = argument.split("=", 1)[0]
    if not name.startswith("-"):
        return f"{argument!r} is not an option; options begin with --"
    near = difflib.get_close_matches(name.lstrip("-").replace("-", "_"), known, n=1, cutoff=0.5)
    hint = f"did you mean --{near[0]}?" if near else "see --help"
    return f"{name}: no such option; {hint}"


def takes_several(field: FieldInfo) -> bool:
    """Whether an option takes a list of values."""
    return typing.get_origin(plain_type(field.annotation)) in (tuple, list)


def plain_type(annotation: Any) -> Any:
    """The type without `| None`."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        [plain] = [inner for inner in typing.get_args(annotation) if inner is not type(None)]
        return plain
    return annotation


def _shown(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= 80 else text[:77] + "…"
