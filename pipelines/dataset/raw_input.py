"""A raw file or folder as an input: hashed when a run is planned, and seen to be the same once it was read."""

from collections.abc import Iterable

from pipelines.dataset.manifest import Input, fingerprint
from rag_core.errors import UsageError
from rag_core.storage import Storage, file_sha256, file_stem, join


def raw_input(storage: Storage, path: str) -> Input:
    """A file, a folder with every file in it, or a name that is no path."""
    stamp = _stamp(storage, path)  # first: a change while it is hashed is to be noticed, too
    return Input(path, _fingerprint(storage, path), stamp)


def check_unchanged(storage: Storage, inputs: Iterable[Input]) -> None:
    """Compares raw inputs, after they were read, with what they were when the run was planned.

    Where a file only looks otherwise (it was copied anew), its content decides.

    Raises:
      UsageError: one has changed or is gone: what was read of it belongs to no fingerprint.
    """
    for item in inputs:
        if not item.stamp or _stamp(storage, item.path) == item.stamp:
            continue
        try:
            same = _fingerprint(storage, item.path) == item.fingerprint
        except FileNotFoundError:
            same = False
        if not same:
            raise UsageError(
                f"{item.path}: was changed or removed while this run read it; put back what it held and run the same "
                "command again, or start afresh with --overwrite when nothing writes to it any more"
            )


def _stamp(storage: Storage, path: str) -> str:
    """Another where a file or a folder's files were changed; empty for what is no path."""
    try:
        if storage.is_folder(path):
            return fingerprint([[file, storage.stamp(file)] for file in storage.list_files(path)])
        return storage.stamp(path)
    except FileNotFoundError:
        return ""


def _fingerprint(storage: Storage, path: str) -> str:
    if storage.is_folder(path):
        files = storage.list_files(path)
        below = join(path, "")
        return fingerprint([[file.removeprefix(below), file_sha256(storage, file)] for file in files])
    if not storage.exists(path):
        return fingerprint(["name", path])
    return fingerprint([file_stem(path), file_sha256(storage, path)])
