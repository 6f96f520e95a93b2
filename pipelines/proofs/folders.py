"""What is proved of one folder, and which folders the output of a run consists of."""

from collections.abc import Iterator

from pipelines.dataset.manifest import MANIFEST, DamagedManifest, read_content
from pipelines.dataset.target import is_unfinished
from pipelines.proofs.belongings import (
    holds_parts_of_ours,
    prove_nothing_else,
    prove_rejects,
    prove_unfinished,
)
from pipelines.proofs.findings import Report
from pipelines.proofs.indexes import prove_index
from pipelines.proofs.lineage import Lineage
from pipelines.proofs.manifests import prove_counts, prove_fingerprint, prove_manifest
from pipelines.proofs.models import prove_model
from pipelines.proofs.order import prove_embeddings_order, prove_index_order
from pipelines.proofs.parts import prove_files, prove_parts
from pipelines.proofs.reading import Reading
from pipelines.training.history import PLOT
from pipelines.transforms.scores import EXPORTS
from rag_core.errors import UsageError
from rag_core.storage import Storage, join


def find_folders(storage: Storage, path: str) -> list[str]:
    """The folders of ours that a path stands for: itself, or the steps of a run below it.

    Raises:
      UsageError: nothing is there, or nothing of ours.
    """
    if not storage.exists(path):
        raise UsageError(f"{path}: no such folder")
    if not storage.is_folder(path):
        raise UsageError(
            f"{path}: is a file; give the folder of a data set, an index, a trained model or a run"
        )
    if _is_ours(storage, path):
        return [path]
    folders = [folder for folder in _below(storage, path) if _holds_ours(storage, folder)]
    if not folders:
        raise UsageError(
            f"{path}: holds nothing of rag-beam: expected a data set, an index, a trained model, or the output of "
            "rag-beam run with a folder for each step"
        )
    return folders


def prove_folder(storage: Storage, folder: str, lineage: Lineage, report: Report, reading: Reading) -> None:
    """Makes every check that its kind of folder has."""
    report.begin_folder(folder)
    if not storage.exists(join(folder, MANIFEST)):
        prove_unfinished(storage, folder, report)
        return
    manifest = prove_manifest(storage, folder, report)
    if manifest is None:
        return
    prove_fingerprint(manifest, folder, report)
    whole = prove_files(storage, folder, manifest.parts, report, reading)
    others: set[str] = set()
    if manifest.table == "mips_index":
        rows = prove_index(storage, folder, manifest, whole, report)
    else:
        table = "training_history" if manifest.table == "model" else manifest.table
        rows = prove_parts(storage, folder, manifest, table, manifest.fingerprint, report)
    if manifest.table == "model":
        others = prove_model(storage, folder, manifest, report, reading) | {PLOT}
    elif manifest.table == "scores":
        others = {EXPORTS[name][0] for name in manifest.settings.get("exports", ()) if name in EXPORTS}
    prove_counts(manifest, folder, rows, report)
    prove_rejects(storage, folder, manifest, report)
    prove_nothing_else(storage, folder, manifest, others, report)
    if manifest.table == "embeddings":
        prove_embeddings_order(storage, folder, manifest, lineage, report)
    elif manifest.table == "mips_index":
        prove_index_order(storage, folder, manifest, lineage, report)
    lineage.prove_inputs(folder, manifest, report)


def _is_ours(storage: Storage, folder: str) -> bool:
    """Whether the folder is one of ours, finished or not.

    Raises:
      UsageError: its manifest is another program's.
    """
    try:
        if read_content(storage, folder) is not None:
            return True
    except DamagedManifest:
        return True
    return is_unfinished(storage, folder) or holds_parts_of_ours(storage, folder)


def _holds_ours(storage: Storage, folder: str) -> bool:
    try:
        return _is_ours(storage, folder)
    except UsageError:
        return False  # of another program


def _below(storage: Storage, path: str) -> Iterator[str]:
    """The folders that lie directly below a path, sorted."""
    below = join(path, "")
    names = {
        file.removeprefix(below).split("/")[0]
        for file in storage.list_files(path)
        if "/" in file.removeprefix(below)
    }
    yield from (join(path, name) for name in sorted(names))
