"""Clocks that jump and files of the future: the same tables, and progress that goes forwards."""

import itertools
import os
import random
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines import progress
from tests.faults.stage_commands import Command, result, status
from tests.pipelines.commands import rag_beam, read_table
from tests.pipelines.conftest import World


def test_a_clock_that_jumps_changes_nothing(
    commands: dict[str, Command],
    undisturbed: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Days back, decades forth, at every look; the progress that is told goes forwards."""
    true_time, jumps = time.time, itertools.cycle([0.0, -864_000.0, 1e9, 5.0, -1e9])
    for stage in ("chunk", "index"):
        expected = undisturbed(stage)
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: true_time() + next(jumps))
            patch.setattr(progress, "_POLL_SECONDS", 0.01)
            patch.setattr(progress, "_POLL_REST", 0)
            patch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
            command, options = commands[stage]
            rag_beam(command, **options, output=tmp_path / stage)
        lines = capsys.readouterr().err.splitlines()
        assert lines
        assert not [line for line in lines if re.search(r"-\d", line.split(": ", 2)[2])]
        assert result(tmp_path / stage) == expected


def test_files_of_the_future_are_read_like_others(
    commands: dict[str, Command],
    undisturbed: Callable[[str], Any],
    corpus: Path,
    world: World,
    tmp_path: Path,
) -> None:
    expected = undisturbed("chunk")
    passages = Path(shutil.copytree(world.made("passages"), tmp_path / "passages"))
    far = 4_102_444_800  # the year 2100
    for path in [*corpus.iterdir(), *passages.iterdir()]:
        os.utime(path, (far + random.Random(path.name).randrange(1_000), far))
    assert status(commands["chunk"], tmp_path / "out") == 0
    assert result(tmp_path / "out") == expected
    command, options = commands["encode"]
    assert status((command, options | {"passages": passages}), tmp_path / "embeddings") == 0
    assert read_table(tmp_path / "embeddings").equals(read_table(world.made("embeddings")))
