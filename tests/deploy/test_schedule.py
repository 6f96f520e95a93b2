"""What starts the nights: its commands are ones that rag-beam takes, its files ones that their readers take."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import deploy.schedule
from pipelines.cli import COMMANDS
from pipelines.run import parse_command_line, read_job

FOLDER = Path(deploy.schedule.__file__).parent


def airflow_command() -> list[str]:
    """The command of the DAG, read without Airflow."""
    tree = ast.parse((FOLDER / "airflow_dag.py").read_text())
    [command] = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMMAND"
    ]
    return command


def systemd_command() -> list[str]:
    [line] = re.findall(r"^ExecStart=(.*)$", (FOLDER / "rag-beam.service").read_text(), re.MULTILINE)
    return shlex.split(line)


def cron_line() -> list[str]:
    [line] = [line for line in (FOLDER / "rag-beam.cron").read_text().splitlines() if line[:1].isdigit()]
    return line.split(maxsplit=6)


def cron_command() -> list[str]:
    words = shlex.split(cron_line()[6].partition("&&")[2])
    return words[: words.index(">>")]


@pytest.mark.parametrize("command", [airflow_command(), systemd_command(), cron_command()], ids=lambda _: "")
def test_the_commands_are_what_rag_beam_takes(command: list[str]) -> None:
    program, name, *arguments = command
    assert Path(program).name == "rag-beam" and name in COMMANDS
    run_file, settings, beam_args = parse_command_line(arguments)
    assert Path(run_file).name == "nightly.yaml" and (FOLDER / "nightly.yaml").exists()
    assert settings.refresh and str(settings.metrics_file).endswith(".prom")  # what node exporters look for
    assert beam_args == []


def test_the_run_file_keeps_nights_whose_answers_equal_a_full_runs() -> None:
    _, settings, _ = parse_command_line(["nightly.yaml", "--refresh"])
    job = read_job(str(FOLDER / "nightly.yaml"), settings)
    assert job.nights == 3
    answering = [step for step in job.steps if step.stage.name in ("generate", "classify")]
    assert len(answering) == 2 and all(step.settings.own_batches for step in answering)


def test_cron_has_five_fields_of_time_a_user_and_no_percent_sign() -> None:
    """To cron a percent sign is a new line."""
    *times, user, command = cron_line()
    assert all(re.fullmatch(r"[\d*/,-]+", field) for field in times) and len(times) == 5
    assert user == "rag-beam" and "%" not in command


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_service_and_timer(tmp_path: Path) -> None:
    """Verified with a program that is there: systemd looks whether it can be started."""
    for name in ("rag-beam.service", "rag-beam.timer"):
        text = (FOLDER / name).read_text().replace("/srv/rag-beam/.venv/bin/rag-beam", sys.executable)
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "rag-beam.timer"), str(tmp_path / "rag-beam.service")],
        capture_output=True,
        text=True,
    )
    told = [line for line in done.stderr.splitlines() if "rag-beam" in line]
    assert (done.returncode, told) == (0, [])
