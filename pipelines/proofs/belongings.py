"""Proves what lies beside the parts: the rejects that were counted, and nothing that does not belong there."""

import re
from collections import Counter

from pipelines.dataset.manifest import MANIFEST, Manifest
from pipelines.dataset.target import LOCK, WORK, is_unfinished
from pipelines.proofs.findings import Report
from rag_core.errors import UsageError
from rag_core.storage import TEMPORARY_MARK, Storage, file_name, join
from rag_core.tables import inspect_table, read_batches
from schemas import TABLES

# a stage's own rejects; those of data sets on the way to it have that one's table in their name
_OWN = re.compile(r"part-\d{5}-\d{5}\.parquet")
# rejects of an index tell in their name which growth of it met them
_GROWTH = re.compile(r"part-[a-z]+-(\d{5})-\d{5}-\d{5}\.parquet")
_REJECTS_NAME = re.compile(r"part-[a-z0-9_-]+\.parquet")


def prove_rejects(storage: Storage, folder: str, manifest: Manifest, report: Report) -> None:
    """Proves that the rows of the rejects are those that the manifest counts, reason by reason.

    The manifest of an index that grew counts the rejects of its last growth only.
    """
    where = join(folder, "rejects")
    with report.check("rejects", where) as check:
        found: Counter[str] = Counter()
        for path in _rejects_files(storage, folder, manifest):
            with check.guard(path):
                table = inspect_table(storage, path, prove=True)
                footer = table.footer if isinstance(table.footer, dict) else {}
                if footer.get("table") != "rejects":
                    check.fail(f"{path}: is no file of rejects that rag-beam wrote; remove it")
                elif _OWN.fullmatch(file_name(path)) and footer.get("fingerprint") != manifest.fingerprint:
                    check.fail(
                        f"{path}: is of the run {str(footer.get('fingerprint'))[:12]}…, expected "
                        f"{manifest.fingerprint[:12]}… from the manifest; make the data set again with --overwrite"
                    )
                if not table.schema.equals(TABLES["rejects"], check_metadata=False):
                    check.fail(f"{path}: its columns are not those of rejects; make the data set again")
                for batch in read_batches(storage, path, TABLES["rejects"]):
                    found.update(batch.column("reason").to_pylist())
        check.note = f"{found.total():,} rows, as counted"
        for reason in sorted({*found, *manifest.counts.rejected}):
            counted = manifest.counts.rejected[reason]
            if found[reason] != counted:
                check.fail(
                    f"{where}: holds {found[reason]:,} records rejected as {reason}, expected {counted:,} from the "
                    "manifest: a file is missing, or is of another run; make the data set again with --overwrite"
                )


def prove_nothing_else(
    storage: Storage, folder: str, manifest: Manifest, others: set[str], report: Report
) -> None:
    """Proves that no file is there that the manifest does not tell of, and nothing unfinished.

    Args:
      others: files beside the parts that this kind of folder has, by their path below it.
    """
    with report.check("nothing else", folder) as check:
        check.note = "no file that the manifest does not list, nothing unfinished"
        listed = {MANIFEST, *(part.name for part in manifest.parts), *others}
        if storage.exists(join(folder, WORK)):
            check.fail(
                f"{join(folder, WORK)}: is left of a run that did not end; run the command of {folder} again, it "
                "clears it away, or remove it"
            )
        below = join(folder, "")
        for path in storage.list_files(folder):
            name = path.removeprefix(below)
            if name in listed or name.startswith(f"{WORK}/") or _is_rejects(name):
                continue
            if name == LOCK:
                check.fail(
                    f"{path}: a run is at work here, or was killed; wait for it, or run its command again"
                )
            elif TEMPORARY_MARK in file_name(name):
                check.fail(f"{path}: is a file that was never finished; remove it")
            else:
                check.fail(f"{path}: is not listed in {MANIFEST}: it is of another run or program; remove it")


def prove_unfinished(storage: Storage, folder: str, report: Report) -> None:
    """Tells of a folder without a manifest that nothing is proved by it."""
    with report.check("manifest", folder) as check:
        check.fail(
            f"{folder}: has no {MANIFEST}: it is unfinished; run the stage that makes it again, it goes on where "
            "it ended"
            if is_unfinished(storage, folder)
            else f"{folder}: its {MANIFEST} is missing, though its parts are there; copy it again, or remove the "
            "folder and make it again"
        )


def holds_parts_of_ours(storage: Storage, folder: str) -> bool:
    """Whether there are parts that rag-beam wrote, whose manifest is gone."""
    for path in storage.list_files(folder):
        name = path.removeprefix(join(folder, ""))
        if name.startswith("part-") and name.endswith(".parquet"):
            try:
                return inspect_table(storage, path).footer is not None
            except (UsageError, ValueError):
                continue
    return False


def _is_rejects(name: str) -> bool:
    folder, _, rest = name.partition("/")
    return folder == "rejects" and _REJECTS_NAME.fullmatch(rest) is not None


def _rejects_files(storage: Storage, folder: str, manifest: Manifest) -> list[str]:
    files = [
        path
        for path in storage.list_files(join(folder, "rejects"))
        if _REJECTS_NAME.fullmatch(file_name(path))
    ]
    if manifest.table != "mips_index":
        return files
    grown = len(manifest.settings.get("growth", ()))
    matches = ((path, _GROWTH.fullmatch(file_name(path))) for path in files)
    return [path for path, match in matches if match is not None and int(match[1]) == grown]
