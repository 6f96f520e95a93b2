"""Proves the files of a trained model, which its manifest lists beside the parts."""

from pipelines.dataset.manifest import MANIFEST, Manifest, check_file_name
from pipelines.proofs.findings import Report
from pipelines.proofs.reading import Reading, prove_file
from rag_core.storage import Storage, join


def prove_model(
    storage: Storage, folder: str, manifest: Manifest, report: Report, reading: Reading
) -> set[str]:
    """Proves that every file of the model is there, with its size and SHA-256.

    Returns:
      The files' names, with slashes.
    """
    where = join(folder, MANIFEST)
    names: set[str] = set()
    with report.check("model", where) as check:
        for item in manifest.details["files"]:
            for segment in item["name"].split("/"):
                check_file_name(segment, where)
            names.add(item["name"])
        if not any(name.endswith(".safetensors") for name in names):
            check.fail(f"{where}: lists no weights (*.safetensors); train again with --overwrite")
        for item in manifest.details["files"]:
            path = join(folder, item["name"])
            with check.guard(path):
                wrong = prove_file(reading, storage, path, item["bytes"], item["sha256"])
                if wrong is not None:
                    check.fail(wrong)
        check.note = f"{len(names):,} files have size and SHA-256"
    return names
