"""Templates: their parameters are the commands' options, their program is those commands, their image holds it."""

import re
import subprocess
from pathlib import Path

import apache_beam
import pytest
from setuptools import find_packages

from deploy.dataflow.launch import command_line, option_fields
from deploy.dataflow.metadata import BEAM_PARAMETERS, COMMANDS, main, metadata
from pipelines.options import beam_option_names, takes_several
from pipelines.run import STAGES
from tests.pipelines.test_options import REQUIRED

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "dataflow"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_parameter_is_an_option_and_every_required_option_a_parameter(command):
    parameters = {parameter["name"]: parameter for parameter in metadata(command)["parameters"]}
    assert len(parameters) == len(metadata(command)["parameters"])
    fields = option_fields(command)
    ours = set(parameters) - set(BEAM_PARAMETERS) - {"run_file"}
    assert ours == set(fields)
    assert set(BEAM_PARAMETERS) <= beam_option_names()
    required = {name for name, parameter in parameters.items() if not parameter["isOptional"]}
    assert required == {name for name, field in fields.items() if field.is_required()} | (
        {"run_file"} if command == "run" else set()
    )
    assert all(parameter["label"] and parameter["helpText"] for parameter in parameters.values())


@pytest.mark.parametrize("command", COMMANDS)
def test_patterns_let_an_options_own_values_through(command):
    fields = option_fields(command)
    patterns = {
        parameter["name"]: parameter["regexes"][0]
        for parameter in metadata(command)["parameters"]
        if "regexes" in parameter
    }
    assert patterns or command == "run"
    for name, pattern in patterns.items():
        default = fields[name].default
        if not fields[name].is_required() and default is not None:
            shown = str(default).lower() if isinstance(default, bool) else str(default)
            assert re.fullmatch(pattern, shown), name
        assert not re.fullmatch(pattern, "no such value")


@pytest.mark.parametrize("stage", [command for command in COMMANDS if command != "run"])
def test_the_program_gives_a_stage_what_a_command_line_would(stage):
    """REQUIRED is a command line; its parameters have one value each, as the service hands them over."""
    argv = [*REQUIRED[stage], "--output", "gs://a-bucket/out", "--profile", "l4"]
    values: dict[str, list[str]] = {}
    for argument in argv:
        if argument.startswith("--"):
            values[argument] = []
        else:
            values[list(values)[-1]].append(argument)
    parameters = [f"{name}={' '.join(given)}" for name, given in values.items()]
    line = command_line(stage, [*parameters, "--overwrite=true", "--runner=DataflowRunner"], {})
    assert line[0] == stage
    settings, beam_args = STAGES[stage].parse(line[1:])
    assert settings == STAGES[stage].parse([*argv, "--overwrite"])[0]
    assert beam_args == ["--runner=DataflowRunner", "--sdk_location=container"]


def test_flags_lists_and_images():
    parameters = [
        "--label_set=SUPPORTS=yes 'NOT ENOUGH=no idea'",
        "--overwrite=false",
        "--sdk_container_image=mine",
    ]
    assert takes_several(option_fields("classify")["label_set"])
    assert command_line("classify", parameters, {"RAG_BEAM_IMAGE": "own"}) == [
        *("classify", "--label_set", "SUPPORTS=yes", "NOT ENOUGH=no idea"),
        *("--sdk_container_image=mine", "--sdk_location=container"),
    ]
    assert command_line(
        "run", ["--run_file=gs://a-bucket/run.yaml", "--only=a b"], {"RAG_BEAM_IMAGE": "own"}
    ) == [
        *("run", "gs://a-bucket/run.yaml", "--only", "a", "b"),
        *("--sdk_location=container", "--sdk_container_image=own"),
    ]


def test_the_image_holds_the_project_and_ends_at_beams_boot():
    assert DOCKERFILE.rstrip().splitlines()[-1] == 'ENTRYPOINT ["/opt/apache/beam/boot"]'
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M)
    sources = [source for line in copied for source in line.split()]
    assert all((ROOT / source).exists() for source in sources)
    packages = {
        name.split(".")[0]
        for name in find_packages(str(ROOT), include=["rag_core*", "pipelines*", "schemas*"])
    }
    assert packages | {"setup.py", "pyproject.toml", "README.md", "deploy/dataflow/launch.py"} == set(sources)
    sent = re.findall(r"^!(.+)$", (FOLDER / "Dockerfile.dockerignore").read_text(), re.M)
    assert set(sent) == set(sources), "what is copied has to be sent to the builder"


def test_the_image_has_the_beam_that_the_project_asks_for():
    """Launcher and workers must have one version; build.sh gives the installed one."""
    least = re.search(r'"apache-beam>=([\d.]+)"', (ROOT / "setup.py").read_text())
    assert least is not None
    assert re.search(rf"^ARG BEAM={re.escape(least[1])}\.\d+$", DOCKERFILE, re.M)
    assert 'apache-beam[gcp]==${BEAM}"' in DOCKERFILE
    assert tuple(map(int, apache_beam.__version__.split(".")[:2])) >= tuple(map(int, least[1].split(".")))


def test_the_build_makes_a_template_of_every_command(capsys):
    script = (FOLDER / "build.sh").read_text()
    assert 'for command in $("$python" -m deploy.dataflow.metadata); do' in script
    assert main([]) == 0
    assert tuple(capsys.readouterr().out.split()) == COMMANDS
    assert subprocess.run(["sh", "-n", FOLDER / "build.sh"], check=False).returncode == 0
    arguments = set(re.findall(r'--build-arg "?(\w+)=', script))
    assert arguments == {"BEAM", "TORCH", "COMMAND", "IMAGE", "HF_HUB_OFFLINE"}
    assert arguments <= set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.M))
