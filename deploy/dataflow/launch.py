"""What a launcher of Dataflow's templates runs: a command of rag-beam, from a template's parameters.

The service hands every parameter over as `--name=value`. So several values are written as on a command
line, in one parameter (`A B "C D"`), and a flag is `true` or `false`.
"""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence

from pydantic.fields import FieldInfo

from pipelines import cli
from pipelines.options import takes_several
from pipelines.run import STAGES, RunSettings

RUN_FILE = "run_file"


def option_fields(command: str) -> dict[str, FieldInfo]:
    """The options of a command that is a template: a stage, or `run`."""
    settings = RunSettings if command == "run" else STAGES[command].settings
    return dict(settings.model_fields)


def command_line(command: str, parameters: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The command line that a template's parameters stand for; what is not ours is Beam's and stays."""
    fields = option_fields(command)
    arguments, run_file = [], []
    for parameter in parameters:
        name, _, value = parameter.removeprefix("--").partition("=")
        if name == RUN_FILE and command == "run":
            run_file = [value]
        elif name not in fields:
            arguments.append(parameter)
        elif fields[name].annotation is bool:
            arguments += [f"--{name}"] if value.lower() == "true" else []
        elif takes_several(fields[name]):
            arguments += [f"--{name}", *shlex.split(value)]
        else:
            arguments.append(parameter)
    given = {parameter.removeprefix("--").partition("=")[0] for parameter in parameters}
    if "sdk_location" not in given:
        arguments.append("--sdk_location=container")
    if "sdk_container_image" not in given and environment.get("RAG_BEAM_IMAGE"):
        arguments.append(f"--sdk_container_image={environment['RAG_BEAM_IMAGE']}")
    return [command, *run_file, *arguments]


if __name__ == "__main__":
    raise SystemExit(cli.main(command_line(os.environ["RAG_BEAM_COMMAND"], sys.argv[1:], os.environ)))
