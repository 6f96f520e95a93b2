"""Inputs that may not be read are told as such, and not as none, nor left out."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.commands import status_of


@pytest.fixture
def closed_folder(open_folder: Path) -> Iterator[Path]:
    """A folder that nobody may enter, beside a corpus, with one in it."""
    open_folder.chmod(0o755)
    folder = open_folder / "closed"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"id": "e", "text": "other words"}\n')
    folder.chmod(0)
    yield folder
    folder.chmod(0o755)


@pytest.mark.parametrize(
    "pattern", ["closed/*.jsonl", "closed/corpus.jsonl", "c*/corpus.jsonl", "closed/a/*", "."]
)
def test_a_folder_that_may_not_be_entered(
    closed_folder: Path, tmp_path: Path, nobody: None, capsys: pytest.CaptureFixture[str], pattern: str
) -> None:
    assert status_of("chunk", input=closed_folder.parent / pattern, output=tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert told == f"rag-beam: {closed_folder}: Permission denied; give a path that can be read or written\n"


def test_a_pattern_that_matches_nothing_in_folders_that_may_be_read(
    open_folder: Path, tmp_path: Path, nobody: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("chunk", input=open_folder / "*" / "x.jsonl", output=tmp_path / "out") == 2
    assert "no file matches" in capsys.readouterr().err
