"""Commands that must be refused."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.dataset.manifest import MANIFEST
from tests.pipelines.commands import status_of

Options = dict[str, Any]


def refusal(capsys: pytest.CaptureFixture[str], output: Path, stage: str, options: Options) -> str:
    """The one sentence of a command that must be refused; nothing that it leaves claims to be complete."""
    capsys.readouterr()
    assert status_of(stage, **options, output=output, progress="none") == 2
    *warnings, text = capsys.readouterr().err.splitlines()
    assert text.startswith("rag-beam: ")
    assert all(line.startswith(f"{stage}: warning: ") for line in warnings), warnings
    assert not (output / MANIFEST).exists()
    assert not list(output.glob("part-*"))
    return text
