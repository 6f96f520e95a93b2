"""Fingerprints of raw inputs."""

import os
from pathlib import Path

import pytest

from pipelines.filesystems import STORAGE
from pipelines.sources import raw_inputs
from rag_core.errors import UsageError


def test_raw_inputs_count_content_and_name_but_not_where_they_lie(tmp_path, monkeypatch):
    def print_of(path: Path | str) -> str:
        [found] = raw_inputs(STORAGE, [str(path)])
        assert found.path == str(path)
        return found.fingerprint

    for name in ["a/one.txt", "b/one.txt", "a/two.txt", "b/set/x.arrow", "c/set/x.arrow"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("same")
    assert print_of(tmp_path / "a" / "one.txt") == print_of(tmp_path / "b" / "one.txt")
    assert print_of(tmp_path / "a" / "one.txt") != print_of(tmp_path / "a" / "two.txt")
    folder = print_of(tmp_path / "b" / "set")
    assert folder == print_of(tmp_path / "c" / "set") == print_of(f"{tmp_path}/b/set/")
    monkeypatch.chdir(tmp_path / "b")
    assert print_of("set") == print_of("./set") == print_of("set/") == folder
    (tmp_path / "b" / "set" / "x.arrow").rename(tmp_path / "b" / "set" / "y.arrow")
    assert print_of("set") != folder
    assert print_of("squad") != print_of("trivia_qa")  # names of data sets on the hub
    twice = raw_inputs(STORAGE, ["set", "squad", "set"])
    assert [item.path for item in twice] == ["set", "squad"]


def test_a_name_that_is_not_utf_8_is_refused(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.txt")
    with open(path, "w") as file:
        file.write("text")
    with pytest.raises(UsageError, match=r"caf\\udce9\.txt': its name is not UTF-8; rename it"):
        raw_inputs(STORAGE, [os.fsdecode(path)])
