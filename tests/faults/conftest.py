"""The small world of the stages' tests, here too, and a user whom permissions bind."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.stage_commands import commands, corpus, undisturbed  # noqa: F401 (fixtures)
from tests.pipelines.conftest import _collect_little, _inspect_once, whole_run, world  # noqa: F401 (fixtures)


@pytest.fixture
def nobody() -> Iterator[None]:
    """Makes root, whom no mode bits bind, somebody who owns nothing; others are bound already."""
    root = os.geteuid() == 0
    if root:
        try:
            os.seteuid(65534)
        except OSError:
            pytest.skip("this root may not become somebody else (a user namespace)")
    yield
    if root:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may read and nobody write, with a corpus in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "corpus.jsonl").write_text('{"id": "d", "text": "some words"}\n')
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
