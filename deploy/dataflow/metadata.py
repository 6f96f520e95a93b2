"""Writes the metadata of a Dataflow template from the options of its command.

python -m deploy.dataflow.metadata encode > encode.json
"""

import json
import sys
import typing
from typing import Any, Literal

from pydantic.fields import FieldInfo

from deploy.dataflow.launch import RUN_FILE, option_fields
from pipelines.launch import Stage
from pipelines.options import plain_type, takes_several
from pipelines.run import STAGES

COMMANDS = ("run", *(name for name, stage in STAGES.items() if isinstance(stage, Stage)))

# Beam's that a launch may need beside those that the service has fields for
BEAM_PARAMETERS = {
    "sdk_container_image": "the image of the workers; default: the template's own",
    "experiments": "of Dataflow, joined by commas",
    "dataflow_service_options": "of Dataflow, joined by commas",
}


def metadata(command: str) -> dict[str, Any]:
    """Name, description and parameters, as `gcloud dataflow flex-template build --metadata-file` takes them."""
    parameters = [_parameter(name, field) for name, field in option_fields(command).items()]
    if command == "run":
        summary = (
            "Submits the first step of a run file that is not complete; launch it again when that has ended."
        )
        parameters.insert(0, _described(RUN_FILE, "a YAML file of steps", optional=False))
    else:
        summary = STAGES[command].summary
    parameters += [_described(name, text, optional=True) for name, text in BEAM_PARAMETERS.items()]
    return {"name": f"rag-beam {command}", "description": summary, "parameters": parameters}


def _parameter(name: str, field: FieldInfo) -> dict[str, Any]:
    help_text = field.description or ""
    if takes_several(field):
        help_text += '; several as on a command line: A B "C D"'
    described = _described(name, help_text, optional=not field.is_required())
    allowed = _allowed(plain_type(field.annotation))
    return described | ({"regexes": [allowed]} if allowed else {})


def _described(name: str, help_text: str, *, optional: bool) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.replace("_", " "),
        "helpText": help_text,
        "isOptional": optional,
        "paramType": "TEXT",
    }


def _allowed(kind: Any) -> str | None:
    """A pattern of the values that the service lets through; None: any."""
    if kind is bool:
        return "^(true|false)$"
    if kind is int:
        return r"^\d+$"
    if typing.get_origin(kind) is Literal:
        return f"^({'|'.join(typing.get_args(kind))})$"
    return None


def main(arguments: list[str]) -> int:
    """Prints the metadata of a command, or the commands where none is named."""
    if not arguments:
        print(*COMMANDS)
    elif arguments[0] in COMMANDS:
        print(json.dumps(metadata(arguments[0]), indent=1, ensure_ascii=False))
    else:
        print(f"{arguments[0]}: expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
