"""Every mistake of a list ends with one sentence that names it, and leaves everything as it was."""

import os
import re
import shlex
from pathlib import Path

import pytest

from tests.faults.ground import make_ground, write_run_files
from tests.faults.mistaken_inputs import INPUTS, MODELS
from tests.faults.mistakes import OPTIONS, OUTPUTS, RUNS, TOGETHER, WORKING, Mistake
from tests.pipelines.commands import status_of
from tests.pipelines.conftest import World

MISTAKES = [*OPTIONS, *TOGETHER, *INPUTS, *OUTPUTS, *MODELS, *RUNS]


@pytest.fixture(scope="module")
def ground(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("ground")
    paths = make_ground(world, folder)
    return paths | write_run_files(folder, paths)


def command_line(mistake: Mistake, ground: dict[str, str]) -> list[str]:
    """The arguments of a command that works, but for the mistake."""
    options = _options(WORKING.get(mistake.command, ""))
    if mistake.command not in ("run", "inspect", "verify"):
        options["--output"] = ["{out}"]
    for name, values in _options(mistake.changes).items():
        if name.startswith("--") or not name:
            options[name] = values
        else:
            del options[name.replace("-", "--", 1) if name != "-" else ""]
    words = [word for name, values in options.items() for word in ([name] if name else []) + values]
    return [word.format_map(ground) for word in words]


def _options(text: str) -> dict[str, list[str]]:
    """Words by the option before them; those before any under the empty name."""
    options: dict[str, list[str]] = {}
    name = ""
    for word in shlex.split(text):
        if word.startswith("-") and not re.fullmatch(r"-\d+", word):
            name = word
            options[name] = []
        else:
            options.setdefault(name, []).append(word)
    return options


def contents(folder: str) -> dict[str, tuple[int, int]]:
    """Everything below a folder, with size and time."""
    return {
        path: (entry.st_size, 0 if os.path.isdir(path) else entry.st_mtime_ns)
        for parent, folders, files in os.walk(folder)
        for path in (os.path.join(parent, name) for name in (*folders, *files))
        for entry in [os.lstat(path)]
    }


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: f"{mistake.command} {mistake.changes}"[:70])
def test_a_mistake_is_named_in_one_sentence_and_changes_nothing(
    mistake: Mistake, ground: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    ground = ground | {"out": str(tmp_path / "out")}
    before = contents(ground["ground"])
    status = status_of(mistake.command, *command_line(mistake, ground))
    said = capfd.readouterr().err
    *warnings, sentence = said.splitlines() or [""]
    assert (status, [line for line in warnings if ": warning: " not in line]) == (2, []), said
    pattern = mistake.names.format_map({name: re.escape(path) for name, path in ground.items()})
    assert re.match(f"rag-beam: .*(?:{pattern})", sentence), said
    assert contents(ground["ground"]) == before
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
