"""Outputs that may not be written: refused in one sentence before any work."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.faults.full_disk import mounted
from tests.faults.stage_commands import Command, status

OUTPUTS = ["chunk", "index", "train_retriever"]


@pytest.mark.parametrize("stage", OUTPUTS)
@pytest.mark.parametrize("place", ["a file", "below a file"])
def test_an_output_that_is_no_folder(
    commands: dict[str, Command],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    stage: str,
    place: str,
) -> None:
    (tmp_path / "file").write_text("mine")
    output = tmp_path / "file" if place == "a file" else tmp_path / "file" / "out"
    assert status(commands[stage], output) == 2
    text = capsys.readouterr().err
    assert re.fullmatch(rf"rag-beam: --output {output}: (is a file; give|cannot be written).*\n", text)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("stage", OUTPUTS)
def test_an_output_on_a_read_only_file_system(
    commands: dict[str, Command], tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    for folder in mounted(tmp_path / "disk"):
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        assert status(commands[stage], folder / "out") == 2
        text = capsys.readouterr().err
        assert text.startswith(f"rag-beam: --output {folder}/out: cannot be written (Read-only file system)")
        assert text.count("\n") == 1


def test_an_output_without_permission(
    open_folder: Path, nobody: None, capsys: pytest.CaptureFixture[str]
) -> None:
    output = open_folder / "out"
    assert status(("chunk", {"input": open_folder / "corpus.jsonl"}), output) == 2
    text = capsys.readouterr().err
    assert text.startswith(f"rag-beam: --output {output}: cannot be written (Permission denied)")
    assert text.count("\n") == 1
