"""`manifest.json`: what a data set holds and what it was made from. Written last."""

import dataclasses
import hashlib
import importlib.metadata
import json
from typing import Any

from pipelines.dataset.ledger import Counts
from rag_core.errors import UsageError
from rag_core.storage import Storage, join
from rag_core.tables import WrittenFile
from schemas import FORMAT_VERSION

MANIFEST = "manifest.json"
CREATED_BY = f"rag-beam {importlib.metadata.version('rag-beam')}"


class StaleManifest(UsageError):
    """The manifest is ours, but it was changed or is of another version: it cannot be relied on."""


class DamagedManifest(UsageError):
    """The manifest is cut short or overwritten: nothing can be read from it."""


def fingerprint(content: Any) -> str:
    """SHA-256 (hex) of a JSON value, equal for equal content whatever the order of keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def result_fingerprint(table: str, settings: dict[str, Any], inputs: list["Input"]) -> str:
    """Equal fingerprints make equal rows (paths, devices and worker counts do not count)."""
    return fingerprint(
        {
            "table": table,
            "format_version": FORMAT_VERSION,
            "settings": settings,
            "inputs": [item.fingerprint for item in inputs],
        }
    )


@dataclasses.dataclass(frozen=True)
class Input:
    """Something that a data set was made from: a source file, another data set or a model.

    Attributes:
      stamp: how a raw file stood before it was hashed, to notice a change of it later in the run; no part of
        the manifest. Empty for what is proved otherwise when it is read.
    """

    path: str
    fingerprint: str
    stamp: str = dataclasses.field(default="", compare=False)

    def to_json(self) -> dict[str, str]:
        return {"path": self.path, "fingerprint": self.fingerprint}


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of manifest.json.

    Attributes:
      table: name of the table, or `mips_index`.
      parts: files in the data set's order, with rows, bytes and SHA-256.
      fingerprint: hash of settings and inputs: equal ones give equal rows.
      settings: resolved settings that change a value or a unit's boundary.
      details: what else the stage tells about its result (the encoder, the index's shards, …).
    """

    table: str
    parts: list[WrittenFile]
    fingerprint: str
    inputs: list[Input]
    settings: dict[str, Any]
    counts: Counts
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    created_by: str = CREATED_BY
    schema_version: int = FORMAT_VERSION

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    def to_json(self) -> dict[str, Any]:
        content = {
            "table": self.table,
            "schema_version": self.schema_version,
            "parts": [dataclasses.asdict(part) for part in self.parts],
            "fingerprint": self.fingerprint,
            "inputs": [item.to_json() for item in self.inputs],
            "settings": self.settings,
            "counts": self.counts.to_json(),
            "created_by": self.created_by,
            "details": self.details,
        }
        return content | {"checksum": fingerprint(content)}


def write_manifest(storage: Storage, folder: str, manifest: Manifest) -> None:
    """Makes the folder a finished data set."""
    with storage.create(join(folder, MANIFEST)) as file:
        file.write(json.dumps(manifest.to_json(), indent=1, ensure_ascii=False).encode())


def read_manifest(storage: Storage, folder: str) -> Manifest | None:
    """The manifest of a folder, None where there is none.

    Raises:
      StaleManifest: it was changed after it was written, or is of another version.
      UsageError: it is not a manifest of ours.
    """
    content = read_content(storage, folder)
    if content is None:
        return None
    path = join(folder, MANIFEST)
    check_unchanged(content, path)
    return manifest_of(content, path)


def read_content(storage: Storage, folder: str) -> dict[str, Any] | None:
    """What stands in a folder's manifest, not yet proved; None where there is none.

    Raises:
      DamagedManifest: it is not JSON.
      UsageError: it is not a manifest of ours.
    """
    path = join(folder, MANIFEST)
    try:
        with storage.open(path) as file:
            content = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise DamagedManifest(
            f"{path}: is not JSON ({error}); if this folder is a data set of rag-beam, remove it and make it again"
        ) from error
    if not isinstance(content, dict) or "checksum" not in content or "table" not in content:
        raise UsageError(
            f"{path}: is not a manifest of rag-beam; is this folder a data set of another program?"
        )
    return content


def check_unchanged(content: dict[str, Any], path: str) -> None:
    """Compares the content of a manifest with the checksum in it.

    Raises:
      StaleManifest: they differ.
    """
    stated = str(content["checksum"])
    found = fingerprint({name: value for name, value in content.items() if name != "checksum"})
    if stated != found:
        raise StaleManifest(
            f"{path}: was changed after it was written (its checksum says {stated[:12]}, its content gives "
            f"{found[:12]}); make the data set again with --overwrite"
        )


def manifest_of(content: dict[str, Any], path: str) -> Manifest:
    """The manifest that a content gives; no name in it leads out of its folder.

    Raises:
      StaleManifest: it is of another version.
      UsageError: a part's name is no plain file name.
    """
    if content["schema_version"] != FORMAT_VERSION:
        raise StaleManifest(
            f"{path}: has schema version {content['schema_version']}, this program reads {FORMAT_VERSION}; "
            "make the data set again"
        )
    for part in content["parts"]:
        check_file_name(part["name"], path)
    return Manifest(
        table=content["table"],
        parts=[WrittenFile(**part) for part in content["parts"]],
        fingerprint=content["fingerprint"],
        inputs=[Input(**item) for item in content["inputs"]],
        settings=content["settings"],
        counts=Counts.from_json(content["counts"]),
        details=content["details"],
        created_by=content["created_by"],
        schema_version=content["schema_version"],
    )


def check_parts_present(storage: Storage, folder: str, manifest: Manifest) -> None:
    """A quick look: every part is there and has its size. Content is proved when a part is read.

    Raises:
      UsageError: a part is missing or of another size than the manifest says.
    """
    for part in manifest.parts:
        path = join(folder, part.name)
        if not storage.exists(path):
            raise UsageError(
                f"{path}: is missing, though {MANIFEST} lists it; make {folder} again with --overwrite"
            )
        size = storage.size(path)
        if size != part.bytes:
            raise UsageError(
                f"{path}: has {size} bytes, {MANIFEST} says {part.bytes}; make {folder} again with --overwrite"
            )


def check_file_name(name: str, where: str) -> None:
    """Refuses a name that leads out of its folder.

    Raises:
      UsageError: it is empty, hidden, or has a separator.
    """
    if not name or name.startswith(".") or "/" in name or "\\" in name or "\0" in name:
        raise UsageError(f"{where}: names the file {name!r}; a plain file name is expected")
