"""A finished and a stopped run of the small stage, made once and copied for each test."""

import shutil
from pathlib import Path

import pytest

from tests.pipelines.dataset.running import run
from tests.pipelines.dataset.small_stage import set_trap


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert run(folder) == 0
    return folder


@pytest.fixture(scope="session")
def _stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped")
    trap = set_trap(folder / "trap.json", "1-0", "raise")
    assert run(folder, "--trap", str(trap)) == 1
    trap.unlink()
    return folder


@pytest.fixture
def finished(_finished: Path, tmp_path: Path) -> Path:
    """A folder with `records.json` and the finished data set `out`."""
    return Path(shutil.copytree(_finished, tmp_path / "finished"))


@pytest.fixture
def stopped(_stopped: Path, tmp_path: Path) -> Path:
    """A folder with `records.json` and `out`, where unit 1-0 failed and the units before it are committed."""
    return Path(shutil.copytree(_stopped, tmp_path / "stopped"))
