"""The manifest that makes an index whole, and reading it."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from pipelines.dataset.ledger import Counts
from pipelines.dataset.manifest import MANIFEST, Manifest, check_parts_present, read_manifest
from pipelines.dataset.parts import finish
from pipelines.dataset.target import LOCK, WORK, Target, is_unfinished
from pipelines.filesystems import STORAGE
from pipelines.transforms.failures import explained
from pipelines.transforms.index_build import IndexBuild
from rag_core.errors import UsageError
from rag_core.mips.checksums import require_sha256, require_size
from rag_core.storage import file_name, file_sha256, join
from rag_core.tables import WrittenFile


class WriteIndexManifest(beam.PTransform):
    """Finishes an index whose steps are done; takes one trigger element, gives one.

    What an earlier process wrote of it, as `resumed` says, is read again before it is called whole.
    """

    def __init__(self, target: Target, build: IndexBuild, growth: list[dict[str, Any]], resumed: bool):
        super().__init__(label="Make index")
        self._target = target
        self._build = build
        self._growth = growth
        self._resumed = resumed

    def expand(self, trigger: beam.PCollection) -> beam.PCollection:
        return trigger | "WriteManifest" >> beam.ParDo(
            WriteIndexManifestFn(self._target, self._build, self._growth, self._resumed)
        )


class WriteIndexManifestFn(beam.DoFn):
    """Writes the manifest over the files that the steps have made."""

    def __init__(self, target: Target, build: IndexBuild, growth: list[dict[str, Any]], resumed: bool):
        self._target = target
        self._build = build
        self._growth = growth
        self._resumed = resumed

    def process(self, trigger: Any) -> Iterator[str]:
        with explained(self._target, "writing the index's manifest"):
            description = {**self._build.description(), "growth": self._growth}
            files = self._build.files()
            for name, _, checksum in files:
                path = join(self._target.folder, name)
                require_size(STORAGE, path, checksum)
                if self._resumed:
                    require_sha256(path, file_sha256(STORAGE, path), checksum)
            step = read_manifest(STORAGE, self._target.carried[0])
            counts = Counts(accepted=step.counts.accepted if step else 0)
            counts.rows_written = sum(shard.rows for shard in self._build.new_shards())
            written = [WrittenFile(name, rows, file.bytes, file.sha256) for name, rows, file in files]
            target = dataclasses.replace(self._target, details={"index": description})
            if finish(STORAGE, target, counts, written):
                _remove_strays(target.folder, {file.name for file in written})
        yield self._target.folder


def _remove_strays(folder: str, names: set[str]) -> None:
    """Removes files of the index that its manifest no longer names, or that a given-up growth left."""
    below = (join(folder, WORK, ""), join(folder, "rejects", ""))
    for path in STORAGE.list_files(folder):
        if not path.startswith(below) and file_name(path) not in {*names, MANIFEST, LOCK}:
            STORAGE.remove(path)


def index_manifest(folder: str) -> Manifest:
    """The manifest of a finished index; `details["index"]` describes it.

    Raises:
      UsageError: there is no finished index, or a shard's file is missing or of another size.
    """
    if not STORAGE.exists(folder):
        raise UsageError(f"{folder}: no such index; make one with rag-beam index")
    manifest = read_manifest(STORAGE, folder)
    if manifest is None:
        state = (
            "is unfinished (run rag-beam index again)"
            if is_unfinished(STORAGE, folder)
            else "has no manifest.json"
        )
        raise UsageError(f"{folder}: {state}; expected a MIPS index")
    if manifest.table != "mips_index":
        raise UsageError(
            f"{folder}: holds {manifest.table}, expected a MIPS index; make one with rag-beam index"
        )
    check_parts_present(STORAGE, folder, manifest)
    return manifest
