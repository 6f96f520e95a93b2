"""Runs rag-beam commands in this process, and reads what they wrote."""

import gc
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import cli
from pipelines.dataset.manifest import Manifest, read_manifest
from pipelines.filesystems import STORAGE


def words_of(options: Mapping[str, Any]) -> list[str]:
    """Options as words of a command line: `--name value`, lists several values, True a flag."""
    words = []
    for name, value in options.items():
        words.append(f"--{name}")
        if value is not True:
            words += map(str, value if isinstance(value, list) else [value])
    return words


def in_two_processes(stage: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What `subprocess` is to be called with for a training in two processes on the CPU."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return {
        "args": [*launcher, "-m", f"pipelines.{stage}", *words_of(options), "--device", "cpu"],
        "cwd": Path(__file__).parents[2],
        "env": os.environ | {"OMP_NUM_THREADS": "1"},
    }


def status_of(command: str, *arguments: str, **options: Any) -> int:
    """The exit status of a command; options as in `words_of`."""
    try:
        return cli.main([command, *arguments, *words_of(options)])
    finally:
        # Collected here and not while pytest parses a source file for a report: when a collection falls
        # into CPython 3.11's ast conversion, it can end with "recursion depth mismatch".
        gc.collect()
        gc.freeze()  # what is left stays, and need not be gone through by the next collection


def rag_beam(command: str, *arguments: str, **options: Any) -> None:
    """Runs a command that must succeed."""
    status = status_of(command, *arguments, **options)
    assert status == 0, f"{command} ended with status {status}"


def read_table(folder: str | Path) -> pa.Table:
    """The rows of a finished data set, in its order."""
    return pa.concat_tables(pq.read_table(f"{folder}/{part.name}") for part in manifest_of(folder).parts)


def history_of(folder: str | Path) -> list[dict[str, Any]]:
    """The history of a training run, without the seconds, which are never the same."""
    return [row | {"seconds": None} for row in read_table(folder).to_pylist()]


def read_rejects(folder: str | Path) -> list[dict[str, Any]]:
    """The rejects of a data set, finished or not."""
    parts = sorted(Path(folder, "rejects").glob("part-*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def manifest_of(folder: str | Path) -> Manifest:
    """The manifest of a finished data set."""
    manifest = read_manifest(STORAGE, str(folder))
    assert manifest is not None, f"{folder} has no manifest"
    return manifest
