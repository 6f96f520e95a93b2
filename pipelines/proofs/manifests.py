"""Proves a manifest by itself: whole, unchanged, its fingerprint that of its settings and inputs, its counts."""

import re
from typing import Any

from pipelines.dataset.ledger import Counts
from pipelines.dataset.manifest import (
    MANIFEST,
    DamagedManifest,
    Manifest,
    check_unchanged,
    manifest_of,
    read_content,
    result_fingerprint,
)
from pipelines.proofs.findings import Report
from rag_core.errors import UsageError
from rag_core.storage import Storage, join
from schemas import TABLES

_SHA256 = re.compile(r"[0-9a-f]{64}")
_KINDS = (*TABLES, "mips_index", "model")


def prove_manifest(storage: Storage, folder: str, report: Report) -> Manifest | None:
    """Proves that the manifest is ours and unchanged; None where too little of it is left to go on.

    A manifest that was edited is gone on with, so that the other checks tell what was.

    Raises:
      UsageError: it is another program's.
    """
    path = join(folder, MANIFEST)
    manifest: Manifest | None = None
    with report.check("manifest", path) as check:
        try:
            content = read_content(storage, folder)
        except DamagedManifest as error:
            check.fail(f"{error} If it is, copy it again or make the data set again with --overwrite")
            return None
        if content is None:
            check.fail(f"{path}: is missing; run the stage that makes {folder} again")
            return None
        try:
            check_unchanged(content, path)
        except UsageError as error:
            check.fail(str(error))
        found = manifest_of(content, path)
        for sentence in _malformed(found):
            check.fail(f"{path}: {sentence}; make the data set again with --overwrite")
            return None
        manifest = found
        check.note = f"unchanged since {found.created_by} wrote it, schema version {found.schema_version}"
    return manifest


def prove_fingerprint(manifest: Manifest, folder: str, report: Report) -> None:
    """Proves that the fingerprint is that of the settings and inputs written beside it."""
    with report.check("fingerprint", folder) as check:
        found = result_fingerprint(manifest.table, manifest.settings, manifest.inputs)
        check.note = f"{found[:12]}… is that of its settings and of its {len(manifest.inputs)} inputs"
        if found != manifest.fingerprint:
            check.fail(
                f"{join(folder, MANIFEST)}: its fingerprint is {manifest.fingerprint[:12]}…, its settings and inputs "
                f"give {found[:12]}…: one of them was changed; make the data set again with --overwrite"
            )


def prove_counts(manifest: Manifest, folder: str, rows: int | None, report: Report) -> None:
    """Proves that the ledger adds up and tells the rows that are there.

    Args:
      rows: those that were written, as they lie there; None where they cannot be told.
    """
    counts, where = manifest.counts, join(folder, MANIFEST)
    with report.check("counts", where) as check:
        check.note = counts.summary()
        left_out, rejected = counts.left_out.total(), counts.rejected.total()
        told = counts.accepted + left_out + rejected
        if counts.read != told:
            check.fail(
                f"{where}: counts {counts.read:,} records read, but {counts.accepted:,} accepted + {left_out:,} left "
                f"out + {rejected:,} rejected are {told:,}; make the data set again with --overwrite"
            )
        if rows is None:
            check.skip(f"{folder}: how many rows were written, as files of it cannot be read")
        elif counts.rows_written != rows:
            check.fail(
                f"{where}: counts {counts.rows_written:,} rows written, {rows:,} lie there; make the data set again "
                "with --overwrite"
            )


def _malformed(manifest: Manifest) -> list[str]:
    """What a hostile or damaged manifest lacks, so that nothing later trips over it."""
    wrong = []
    if manifest.table not in _KINDS:
        wrong.append(f"holds the table {str(manifest.table)[:100]!r}, which this program does not know")
    if not str(manifest.created_by).startswith("rag-beam "):
        wrong.append(f"was created by {str(manifest.created_by)[:100]!r}, expected rag-beam and its version")
    names = [part.name for part in manifest.parts]
    if len(set(names)) < len(names):
        wrong.append("lists a part twice")
    for part in manifest.parts:
        if not (_is_count(part.rows) and _is_count(part.bytes) and _is_sha256(part.sha256)):
            wrong.append(f"part {part.name!r} lacks rows, bytes or a SHA-256 of 64 hex digits")
    if not isinstance(manifest.settings, dict) or not isinstance(manifest.details, dict):
        wrong.append("its settings and details are no objects")
    if not all(isinstance(item.path, str) and isinstance(item.fingerprint, str) for item in manifest.inputs):
        wrong.append("an input lacks a path or a fingerprint")
    return wrong + _malformed_counts(manifest.counts)


def _malformed_counts(counts: Counts) -> list[str]:
    numbers: list[Any] = [counts.read, counts.accepted, counts.rows_written]
    for reasons in (counts.left_out, counts.rejected, counts.extra):
        numbers += reasons.values()
    return [] if all(map(_is_count, numbers)) else ["a count is no whole number from 0"]


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None
