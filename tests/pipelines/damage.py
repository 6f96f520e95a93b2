"""Damages what the stages have made, in ways that a checksum alone finds, and in ways that it does not."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.dataset.manifest import fingerprint
from pipelines.filesystems import STORAGE
from rag_core.tables import create_table, inspect_table
from tests.pipelines.commands import status_of


class Verified:
    """What `rag-beam verify` said.

    Attributes:
      status: the exit status.
      text: all that was printed.
      failed: names of the checks that failed, over all folders.
      skipped: names of those that were not checked.
    """

    def __init__(self, status: int, text: str):
        self.status, self.text = status, text
        lines = [line[2:] for line in text.splitlines() if line.startswith("  ") and line[2] != " "]
        self.failed = {line[13:26].strip() for line in lines if line.startswith("FAILED")}
        self.skipped = {line[13:26].strip() for line in lines if line.startswith("not checked")}


def verify(capsys: pytest.CaptureFixture, *paths: object) -> Verified:
    """Runs the command; what it says on both streams."""
    capsys.readouterr()
    status = status_of("verify", *map(str, paths))
    said = capsys.readouterr()
    return Verified(status, said.out + said.err)


def copied(made: str | Path, folder: Path) -> Path:
    """A copy to damage; what it was made from stays where it was."""
    return Path(shutil.copytree(made, folder / Path(made).name))


def edit_manifest(
    folder: Path, change: Callable[[dict[str, Any]], object], *, sealed: bool = True
) -> dict[str, Any]:
    """Changes the manifest; `sealed` makes its checksum fit again, as who wants to deceive would."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    if sealed:
        content.pop("checksum")
        content["checksum"] = fingerprint(content)
    path.write_text(json.dumps(content))
    return content


def list_file_again(folder: Path, name: str, rows: int | None = None) -> None:
    """Lets the manifest tell size and SHA-256 that a file has now, wherever it tells them."""
    content = (folder / name).read_bytes()
    fresh = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def change(manifest: dict[str, Any]) -> None:
        for part in manifest["parts"]:
            if part["name"] == name:
                part |= fresh | ({} if rows is None else {"rows": rows})
        for shard in manifest["details"].get("index", {}).get("shards", []):
            if name in shard["files"]:
                shard["files"][name] = fresh

    edit_manifest(folder, change)


def rewrite_part(folder: Path, change: Callable[[pa.Table], pa.Table], part: int = 0) -> str:
    """Writes a part anew with its footer, and lets the manifest list it as it is now."""
    name = sorted(path.name for path in folder.glob("*.parquet"))[part]
    path = str(folder / name)
    footer = inspect_table(STORAGE, path).footer
    table = change(pq.read_table(path))
    with create_table(STORAGE, path, table.schema) as creation:
        for batch in table.to_batches():
            creation.writer.write(batch)
        creation.writer.footer = footer or {}
    list_file_again(folder, name, table.num_rows)
    return path


def changed_rows(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[pa.Table], pa.Table]:
    """A change of rows as Python has them, under the same schema."""

    def changed(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        change(rows)
        return pa.Table.from_pylist(rows, schema=table.schema)

    return changed


def flip_byte(path: Path, place: int) -> None:
    """Turns one byte over; from the end where `place` is negative."""
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
