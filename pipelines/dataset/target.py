"""What a stage is about to make: the plan of an output folder, and whether it may be made there."""

import dataclasses
import functools
import json
from typing import Any

import pyarrow as pa

from pipelines.dataset.manifest import (
    MANIFEST,
    Input,
    Manifest,
    StaleManifest,
    check_parts_present,
    fingerprint,
    read_manifest,
    result_fingerprint,
)
from rag_core.errors import UsageError
from rag_core.storage import TEMPORARY_MARK, Storage, file_name, join
from schemas import TABLES

WORK = ".work"
LOCK = ".lock"
_PLAN = "plan.json"


class MadeOtherwise(UsageError):
    """The folder holds, finished or begun, what other settings or inputs make.

    Attributes:
      difference: what was otherwise, for people.
    """

    def __init__(self, folder: str, difference: str):
        super().__init__(
            f"--output {folder}: was made with other settings or inputs ({difference}); give another folder, or "
            "--overwrite to start afresh"
        )
        self.difference = difference


@dataclasses.dataclass(frozen=True)
class Target:
    """A data set to be made. Small and picklable: it travels to every worker.

    Attributes:
      folder: where; `work_folder` below it holds what is not finished.
      stage: the stage that makes it, for rejects and messages.
      settings: resolved settings that change a value or a unit's boundary (JSON).
      inputs: what it is made from.
      rows_per_part: the most rows a part may have.
      max_rejects: share of rejected records that is accepted.
      unique: whether a record whose key was met before is rejected (`UnitWriter.key`).
      schema: of the parts; the table's own unless a stage narrows it.
      carried: data sets, made on the way to this one, whose left out and rejected records are this
        one's: the first of them read the input.
      part_names: the name of each source's only part, where another data set prescribes it.
      details: goes into the manifest as it is.
      replaces: fingerprint of the finished data set in this folder that this one is made from, and that
        stays whole until this one's manifest takes its place.
    """

    folder: str
    table: str
    stage: str
    settings: dict[str, Any]
    inputs: list[Input]
    rows_per_part: int = 50_000
    max_rejects: float = 0.01
    unique: bool = False
    schema: pa.Schema | None = None
    carried: tuple[str, ...] = ()
    part_names: tuple[str, ...] = ()
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    replaces: str | None = None

    @functools.cached_property
    def fingerprint(self) -> str:
        """Equal fingerprints make equal rows (paths, devices and worker counts do not count)."""
        return result_fingerprint(self.table, self.settings, self.inputs)

    @property
    def parts_schema(self) -> pa.Schema:
        return self.schema if self.schema is not None else TABLES[self.table]

    @property
    def work_folder(self) -> str:
        return join(self.folder, WORK)

    @property
    def units_folder(self) -> str:
        return join(self.folder, WORK, "units")

    def plan(self) -> dict[str, Any]:
        return {
            "table": self.table,
            "stage": self.stage,
            "fingerprint": self.fingerprint,
            "settings": self.settings,
            "inputs": [item.to_json() for item in self.inputs],
        }


def claim(storage: Storage, target: Target, *, overwrite: bool) -> Manifest | None:
    """Makes the folder ready for this target, or returns the manifest where it is finished already.

    What an unfinished run of the same target left is kept: that is resume. Call it with the
    folder's lock held.

    Raises:
      MadeOtherwise: the folder holds another data set of ours, or one made with other settings or inputs (the
        message names what differs).
      UsageError: it is not ours.
    """
    folder = target.folder
    existing = _refuse_or_existing(storage, target, overwrite)
    if existing is not None:
        manifest = read_manifest(storage, folder)
        if manifest is not None:
            check_parts_present(storage, folder, manifest)
            storage.remove(target.work_folder)  # a run that was killed between the manifest and this
            return manifest
        for path in storage.list_files(folder):
            if TEMPORARY_MARK in file_name(path):
                storage.remove(path)
        return None
    with storage.create(join(target.work_folder, _PLAN)) as file:
        plan = target.plan()
        plan |= {"checksum": fingerprint(plan)}
        file.write(json.dumps(plan, indent=1, ensure_ascii=False).encode())
    return None


def is_unfinished(storage: Storage, folder: str) -> bool:
    """Whether a run of ours began here and did not end."""
    return storage.exists(join(folder, WORK, _PLAN))


def clear_folder(storage: Storage, folder: str) -> None:
    """Removes what is in the folder, but not its lock.

    What makes the folder ours goes last: killed half-way, it can still be told from a stranger's.
    """
    marks = [join(folder, WORK, _PLAN), join(folder, MANIFEST)]
    for path in storage.list_files(folder):
        if path not in (join(folder, LOCK), *marks):
            storage.remove(path)
    storage.remove(join(folder, "rejects"))
    for mark in marks:
        storage.remove(mark)
    storage.remove(join(folder, WORK))


def _refuse_or_existing(storage: Storage, target: Target, overwrite: bool) -> dict[str, Any] | None:
    """The plan that lies in the folder where it is this target's; None where the folder is free."""
    folder = target.folder
    if storage.exists(folder) and not storage.is_folder(folder):
        raise UsageError(f"--output {folder}: is a file; give a folder")
    existing = _existing_plan(storage, folder, overwrite)
    if existing is None:
        others = [
            path
            for path in storage.list_files(folder)
            if path != join(folder, LOCK) and TEMPORARY_MARK not in file_name(path)
        ]
        if others:
            raise UsageError(
                f"--output {folder}: holds {len(others)} files that are not of rag-beam (such as "
                f"{file_name(others[0])}); give a new or empty folder"
            )
        return None
    if overwrite:
        clear_folder(storage, folder)
        return None
    if target.replaces is not None and existing["fingerprint"] == target.replaces:
        return None
    if existing["fingerprint"] != target.fingerprint:
        raise MadeOtherwise(folder, _difference(existing, target.plan()))
    return existing


def _existing_plan(storage: Storage, folder: str, overwrite: bool) -> dict[str, Any] | None:
    """Settings and inputs of what lies in the folder, finished or not; None where nothing of ours does."""
    try:
        manifest = read_manifest(storage, folder)
    except StaleManifest:
        if overwrite:
            return {}
        raise
    if manifest is not None:
        return manifest.to_json()
    if not is_unfinished(storage, folder):
        return None
    return {} if overwrite else _read_plan(storage, join(folder, WORK, _PLAN))


def _read_plan(storage: Storage, path: str) -> dict[str, Any]:
    """The plan of an unfinished run.

    Raises:
      UsageError: it was changed or damaged since it was written.
    """
    with storage.open(path) as file:
        content = file.read()
    try:
        plan = json.loads(content)
        stated = plan.pop("checksum", None)  # earlier versions wrote none
        whole = {"table", "fingerprint", "settings", "inputs"} <= plan.keys() and stated in (
            None,
            fingerprint(plan),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise UsageError(
            f"{path}: was changed or damaged since an unfinished run wrote it, so that nothing can go on from it; "
            "start afresh with --overwrite"
        )
    return plan


def _difference(existing: dict[str, Any], wanted: dict[str, Any]) -> str:
    """What differs between two plans, for people."""
    if existing["table"] != wanted["table"]:
        return f"it holds {existing['table']}, this would be {wanted['table']}"
    differences = []
    for name in sorted({*existing["settings"], *wanted["settings"]}):
        before, after = existing["settings"].get(name), wanted["settings"].get(name)
        if before != after:
            differences.append(f"{name} was {_short(before)}, is {_short(after)}")
    before_inputs = {item["path"]: item["fingerprint"] for item in existing["inputs"]}
    after_inputs = {item["path"]: item["fingerprint"] for item in wanted["inputs"]}
    if list(before_inputs.values()) != list(after_inputs.values()):
        for path in sorted({*before_inputs, *after_inputs}):
            if path not in after_inputs:
                differences.append(f"{path} is no longer an input")
            elif path not in before_inputs:
                differences.append(f"{path} is a new input")
            elif before_inputs[path] != after_inputs[path]:
                differences.append(f"{path} has changed")
    shown = "; ".join(differences[:5]) or "another order of inputs"
    return shown + (f"; and {len(differences) - 5} more" if len(differences) > 5 else "")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
