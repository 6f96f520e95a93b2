"""A model's files: committed with their checksums, missed when they are gone."""

from pathlib import Path

import pytest

from pipelines.dataset.ledger import Counts
from pipelines.dataset.manifest import Manifest
from pipelines.filesystems import STORAGE
from pipelines.training.model_files import check_model_files, commit_model
from rag_core.errors import UsageError
from rag_core.storage import file_sha256


def test_files_are_copied_and_listed_and_their_loss_is_told(tmp_path: Path) -> None:
    local, folder = tmp_path / "local", tmp_path / "out"
    (local / "encoder" / "1_Pooling").mkdir(parents=True)
    (local / "encoder" / "model.safetensors").write_bytes(b"weights")
    (local / "encoder" / "1_Pooling" / "config.json").write_text("{}")
    files = commit_model(STORAGE, local, str(folder))
    assert [(item["name"], item["bytes"]) for item in files] == [
        ("encoder/1_Pooling/config.json", 2),
        ("encoder/model.safetensors", 7),
    ]
    for item in files:
        assert item["sha256"] == file_sha256(STORAGE, str(folder / item["name"]))
    manifest = Manifest("model", [], "f", [], {}, Counts(), details={"files": files})
    check_model_files(STORAGE, str(folder), manifest)
    (folder / "encoder" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(UsageError, match=r"model\.safetensors: has 4 bytes, .* says 7 bytes"):
        check_model_files(STORAGE, str(folder), manifest)
    (folder / "encoder" / "1_Pooling" / "config.json").unlink()
    with pytest.raises(UsageError, match=r"config\.json: is missing.*--overwrite"):
        check_model_files(STORAGE, str(folder), manifest)
