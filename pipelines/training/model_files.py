"""A model's files from a local folder to an output, with size and checksum of each."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.dataset.manifest import MANIFEST, Manifest
from rag_core.errors import UsageError, WriteFailed
from rag_core.storage import LocalStorage, Storage, file_sha256, join

_NO_ROOM = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def save_locally(save: Callable[[Path], None], folder: Path) -> None:
    """Writes a model's files below an empty local folder, from which they are committed.

    Raises:
      WriteFailed: there is no room for them. Libraries raise errors of their own for that: the system's words
        in it tell.
    """
    try:
        save(folder)
    except Exception as error:
        if any(words in str(error) for words in _NO_ROOM):
            raise WriteFailed(
                f"{folder}: the model cannot be written there on its way to the output ({error}); make room, or name "
                "another folder in TMPDIR, and run the same command again: it goes on from the last checkpoint"
            ) from error
        raise


def commit_model(storage: Storage, local: Path, folder: str) -> list[dict[str, Any]]:
    """Copies every file below `local` to the same place below `folder`, each whole or not at all.

    Returns:
      `name` (with slashes), `bytes` and `sha256` of each, sorted.
    """
    files = []
    for path in sorted(path for path in local.rglob("*") if path.is_file()):
        name = path.relative_to(local).as_posix()
        with path.open("rb") as source, storage.create(join(folder, name)) as copy:
            shutil.copyfileobj(source, copy)
        files.append(
            {"name": name, "bytes": path.stat().st_size, "sha256": file_sha256(LocalStorage(), str(path))}
        )
    return files


def check_model_files(storage: Storage, folder: str, manifest: Manifest) -> None:
    """A quick look: every file is there and has its size.

    Raises:
      UsageError: one is missing or of another size than the manifest says.
    """
    for item in manifest.details["files"]:
        path = join(folder, item["name"])
        size = storage.size(path) if storage.exists(path) else None
        if size != item["bytes"]:
            found = "is missing" if size is None else f"has {size} bytes"
            raise UsageError(
                f"{path}: {found}, {MANIFEST} says {item['bytes']} bytes; make {folder} again with --overwrite"
            )
