"""Follows the inputs of a manifest back to the corpus: each still has the fingerprint that was recorded.

A link whose path is gone cannot be followed and is told as not checked. An input that is verified in
the same command is not followed further: its own checks do that.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pipelines.dataset.manifest import (
    MANIFEST,
    Input,
    Manifest,
    check_parts_present,
    fingerprint,
    read_manifest,
    result_fingerprint,
)
from pipelines.dataset.target import is_unfinished
from pipelines.proofs.findings import Outcome, Report
from pipelines.sources import raw_inputs
from rag_core.errors import UsageError
from rag_core.model_files import model_fingerprint, resolve_model
from rag_core.storage import Storage, file_name, file_sha256, is_local, join

Link = tuple[Outcome, str]  # what came of it, and the sentence where it does not hold

_MODEL_FILES = ("config.json", "modules.json")  # one of which a folder of a model holds


class Lineage:
    """Follows links, each once a command."""

    def __init__(self, storage: Storage, verified: set[str]):
        """`verified` are the folders whose own checks are made in the same command."""
        self._storage = storage
        self._verified = verified
        self._fingerprints: dict[str, list[str]] = {}

    def prove_inputs(self, folder: str, manifest: Manifest, report: Report) -> None:
        """Proves that what the folder was made from is still what it was, and what that was made from."""
        with report.check("inputs", folder) as check:
            links = 0
            for outcome, sentence in self._follow(folder, manifest):
                links += outcome == Outcome.OK
                check.enter(outcome, sentence)
            check.note = f"{links:,} links back to the corpus have the fingerprints recorded"

    def find_dataset(self, folder: str, item: Input) -> tuple[str, Manifest] | None:
        """Where the data set of an input lies now: at its path, or beside the folder that was made from it."""
        for path in dict.fromkeys((item.path, join(_parent(folder), file_name(item.path)))):
            if self._storage.is_folder(path):
                with contextlib.suppress(UsageError):
                    manifest = read_manifest(self._storage, path)
                    if manifest is not None and manifest.fingerprint == item.fingerprint:
                        return path, manifest
        return None

    def _follow(self, folder: str, manifest: Manifest) -> Iterator[Link]:
        """What came of each link."""
        for item in manifest.inputs:
            at = f"{join(folder, MANIFEST)}: made from {item.path}"
            found = self.find_dataset(folder, item)
            if found is not None:
                yield Outcome.OK, ""
                yield from self._follow_dataset(*found)
                continue
            if not self._can_be_read(item.path):
                yield Outcome.NOT_CHECKED, f"{at}: {_why_gone(item)}"
                continue
            try:
                wrong = self._wrong(item)
            except (UsageError, OSError) as error:
                wrong = str(error)
            if wrong is None:
                yield Outcome.OK, ""
                yield from self._follow_owner(item.path)
            elif self._grown_since(item):
                yield Outcome.NOT_CHECKED, f"{at}: that index has grown since, and is no longer what it was"
            else:
                yield (
                    Outcome.FAILED,
                    f"{at} ({item.fingerprint[:12]}…): {wrong}; put back what it was made from, or make {folder} again "
                    "with --overwrite",
                )

    def _follow_dataset(self, folder: str, manifest: Manifest) -> Iterator[Link]:
        """The links behind an input that is a data set of ours."""
        if spelt(folder) in self._verified:
            return
        self._verified.add(spelt(folder))
        try:
            check_parts_present(self._storage, folder, manifest)
        except UsageError as error:
            yield Outcome.FAILED, str(error)
        given = result_fingerprint(manifest.table, manifest.settings, manifest.inputs)
        if given != manifest.fingerprint:
            yield (
                Outcome.FAILED,
                f"{join(folder, MANIFEST)}: its fingerprint is {manifest.fingerprint[:12]}…, its settings and inputs "
                f"give {given[:12]}…; make it again with --overwrite",
            )
        yield from self._follow(folder, manifest)

    def _follow_owner(self, path: str) -> Iterator[Link]:
        """A file of a data set of ours, or a folder of a trained model, leads on to what that was made from."""
        owner = _parent(path)
        with contextlib.suppress(UsageError):
            manifest = read_manifest(self._storage, owner)
            if manifest is not None:
                yield from self._follow_dataset(owner, manifest)

    def _can_be_read(self, path: str) -> bool:
        """Whether a file or a folder is there; a device, which might never end, is neither."""
        if is_local(path):
            return os.path.isfile(path) or os.path.isdir(path)
        return self._storage.exists(path)

    def _wrong(self, item: Input) -> str | None:
        """How what lies at an input's path differs from what was recorded; None where it does not."""
        storage, path = self._storage, item.path
        if storage.is_folder(path):
            manifest = read_manifest(storage, path)
            if manifest is not None:
                return f"it is now another data set ({manifest.table}, {manifest.fingerprint[:12]}…)"
            if is_unfinished(storage, path):
                return "it is unfinished now"
        if path not in self._fingerprints:
            self._fingerprints[path] = list(_fingerprints(storage, path))
        if item.fingerprint in self._fingerprints[path]:
            return None
        return "its content has changed since"

    def _grown_since(self, item: Input) -> bool:
        """Whether an index at the input's path was, before it grew, the one that is recorded."""
        with contextlib.suppress(UsageError):
            if self._storage.is_folder(item.path):
                manifest = read_manifest(self._storage, item.path)
                growth = manifest.settings.get("growth", ()) if manifest is not None else ()
                return any(step["replaces"] == item.fingerprint for step in growth)
        return False


def _fingerprints(storage: Storage, path: str) -> Iterator[str]:
    """All that a path without a manifest may be recorded as: a raw source, Parquet made elsewhere, a model."""
    [raw] = raw_inputs(storage, [path])
    yield raw.fingerprint
    folder = storage.is_folder(path)
    files = [file for file in storage.list_files(path) if file.endswith(".parquet")] if folder else [path]
    if files:
        yield fingerprint([file_sha256(storage, file) for file in files])
    if folder and (is_local(path) or any(storage.exists(join(path, name)) for name in _MODEL_FILES)):
        yield model_fingerprint(resolve_model(path))


def _why_gone(item: Input) -> str:
    if item.fingerprint == fingerprint(["name", item.path]):
        return "is the name of a data set on the hub, whose content is not recorded"
    return "nothing lies there now"


def _parent(path: str) -> str:
    parent, slash, _ = path.rstrip("/").rpartition("/")
    return parent if slash else "."


def spelt(path: str) -> str:
    """One spelling of a folder, so that it is told to be the same."""
    return str(Path(path).resolve()) if is_local(path) else path.rstrip("/")
