"""`manifest.json`: what the contract says it holds, told from others', and not relied on once edited."""

import dataclasses
import json

import pytest

from pipelines.dataset.ledger import Counts
from pipelines.dataset.manifest import (
    CREATED_BY,
    Input,
    Manifest,
    StaleManifest,
    check_parts_present,
    fingerprint,
    read_manifest,
    write_manifest,
)
from pipelines.filesystems import STORAGE
from rag_core.errors import UsageError
from rag_core.tables import WrittenFile

MANIFEST = Manifest(
    table="passages",
    parts=[WrittenFile("part-00000-00000.parquet", 3, 6, "00" * 32)],
    fingerprint="ab" * 32,
    inputs=[Input("corpus/größe.txt", "cd" * 32)],
    settings={"passage_words": 100},
    counts=Counts(read=2, accepted=2, rows_written=3),
    details={"warnings": []},
)


def test_it_holds_what_the_contract_says(tmp_path):
    write_manifest(STORAGE, str(tmp_path), MANIFEST)
    content = json.loads((tmp_path / "manifest.json").read_bytes())
    assert content["table"] == "passages"
    assert content["schema_version"] == 1
    assert content["parts"] == [
        {"name": "part-00000-00000.parquet", "rows": 3, "bytes": 6, "sha256": "00" * 32}
    ]
    assert content["fingerprint"] == "ab" * 32
    assert content["inputs"] == [{"path": "corpus/größe.txt", "fingerprint": "cd" * 32}]
    assert content["settings"] == {"passage_words": 100}
    assert content["counts"] == {"read": 2, "accepted": 2, "left_out": {}, "rejected": {}, "rows_written": 3}
    assert content["created_by"] == CREATED_BY
    assert CREATED_BY.startswith("rag-beam ")


def test_it_comes_back_as_it_was(tmp_path):
    write_manifest(STORAGE, str(tmp_path), MANIFEST)
    assert read_manifest(STORAGE, str(tmp_path)) == MANIFEST
    assert MANIFEST.rows == 3


def test_a_folder_without_one_has_none(tmp_path):
    assert read_manifest(STORAGE, str(tmp_path)) is None
    assert read_manifest(STORAGE, str(tmp_path / "none")) is None


@pytest.mark.parametrize("key", ["table", "parts", "fingerprint", "inputs", "settings", "counts", "details"])
def test_an_edit_anywhere_is_found(tmp_path, key):
    content = MANIFEST.to_json()
    content[key] = "edited"
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(StaleManifest, match=r"manifest\.json: was changed after it was written"):
        read_manifest(STORAGE, str(tmp_path))


def test_its_layout_does_not_count(tmp_path):
    content = dict(reversed(MANIFEST.to_json().items()))
    (tmp_path / "manifest.json").write_text(json.dumps(content, indent=8))
    assert read_manifest(STORAGE, str(tmp_path)) == MANIFEST


def test_another_version_is_refused(tmp_path):
    write_manifest(STORAGE, str(tmp_path), dataclasses.replace(MANIFEST, schema_version=99))
    with pytest.raises(StaleManifest, match="has schema version 99, this program reads 1"):
        read_manifest(STORAGE, str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"{}", b'{"table": "passages"}'])
def test_what_is_no_manifest_of_ours_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"manifest\.json: is not") as refusal:
        read_manifest(STORAGE, str(tmp_path))
    assert not isinstance(refusal.value, StaleManifest)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "", ".hidden", "a/b", "a\\b", "a\0b"])
def test_a_part_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    manifest = dataclasses.replace(MANIFEST, parts=[WrittenFile(name, 3, 6, "00" * 32)])
    write_manifest(STORAGE, str(tmp_path), manifest)
    with pytest.raises(UsageError, match="a plain file name is expected"):
        read_manifest(STORAGE, str(tmp_path))


def test_parts_must_be_there_with_their_size(tmp_path):
    part = tmp_path / "part-00000-00000.parquet"
    with pytest.raises(UsageError, match=f"{part}: is missing"):
        check_parts_present(STORAGE, str(tmp_path), MANIFEST)
    part.write_bytes(b"12345")
    with pytest.raises(UsageError, match=f"{part}: has 5 bytes, manifest.json says 6"):
        check_parts_present(STORAGE, str(tmp_path), MANIFEST)
    part.write_bytes(b"123456")
    check_parts_present(STORAGE, str(tmp_path), MANIFEST)


def test_fingerprints_see_content_and_not_the_order_of_keys():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": [1, 2]}) != fingerprint({"a": [2, 1]})
    assert fingerprint(["ab", "c"]) != fingerprint(["a", "bc"])
    assert fingerprint("größe") != fingerprint("grösse")
