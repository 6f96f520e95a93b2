"""`rag-beam verify`: a whole run is proved; damage to manifests, files and inputs is found and named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.dataset.manifest import result_fingerprint
from pipelines.filesystems import STORAGE
from tests.pipelines.commands import manifest_of, rag_beam
from tests.pipelines.conftest import World
from tests.pipelines.damage import (
    copied,
    edit_manifest,
    flip_byte,
    list_file_again,
    verify,
)
from tests.pipelines.memory_files import OBJECTS

PART = "part-00000-00000.parquet"


def test_a_whole_run_is_proved(whole_run: Path, capsys: pytest.CaptureFixture) -> None:
    said = verify(capsys, whole_run)
    assert said.status == 0, said.text
    assert said.failed == said.skipped == set()
    steps = sorted(path.name for path in whole_run.iterdir())
    assert [line for line in said.text.splitlines() if line.startswith(str(whole_run))] == [
        f"{whole_run}/{step}" for step in steps
    ]
    assert f"{len(steps)} folders: " in said.text and " 0 FAILED, 0 not checked" in said.text
    assert "42 read, 40 accepted, 2 rejected (bad_json 1, duplicate_id 1)" in said.text
    assert verify(capsys, *whole_run.iterdir()).status == 0


def test_what_lies_on_an_object_store(whole_run: Path, capsys: pytest.CaptureFixture) -> None:
    OBJECTS.clear()
    for step in ("embeddings", "index", "answers_rag_token"):
        for path in (path for path in (whole_run / step).rglob("*") if path.is_file()):
            with STORAGE.create(f"mem://bucket/run/{step}/{path.relative_to(whole_run / step)}") as file:
                file.write(path.read_bytes())
    said = verify(capsys, "mem://bucket/run")
    assert said.status == 0, said.text
    assert "3 folders: " in said.text and said.skipped == set()
    path = "mem://bucket/run/index/shard-00000.vectors.npy"
    with STORAGE.open(path) as stored:
        content = bytearray(stored.read())
    content[-1] ^= 0xFF
    with STORAGE.create(path) as file:
        file.write(content)
    said = verify(capsys, "mem://bucket/run/index")
    assert said.status == 1 and f"{path}: its content has SHA-256" in said.text


def test_the_same_folder_is_proved_once(whole_run: Path, capsys: pytest.CaptureFixture) -> None:
    said = verify(capsys, whole_run / "passages", f"{whole_run}/../out/passages/")
    assert said.status == 0
    assert "1 folders: " in said.text


def test_what_is_not_ours_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "manifest.json").write_text('{"name": "an app"}')
    (tmp_path / "file").write_text("")
    for name, message in {
        "nothing": "no such folder",
        "empty": "holds nothing of rag-beam",
        "app": "is not a manifest of rag-beam",
        "file": "is a file; give the folder",
    }.items():
        said = verify(capsys, tmp_path / name)
        assert said.status == 2
        assert f"{name}" in said.text and message in said.text and "Traceback" not in said.text
    assert verify(capsys).status == 2
    assert verify(capsys, tmp_path / "empty", "--progres", "none").status == 2


@pytest.mark.parametrize("place", [10, 2_000, -60])
def test_a_flipped_byte(whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, place: int) -> None:
    folder = copied(whole_run / "passages", tmp_path)
    flip_byte(folder / PART, place)
    said = verify(capsys, folder)
    assert said.status == 1
    assert "files" in said.failed
    assert f"{folder}/{PART}: its content has SHA-256" in said.text


def test_a_truncated_and_a_missing_part(
    whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = copied(whole_run / "answers_rag_token", tmp_path)
    content = (folder / PART).read_bytes()
    (folder / PART).write_bytes(content[:-20])
    said = verify(capsys, folder)
    assert said.status == 1
    assert {"files", "rows"} <= said.failed
    assert f"has {len(content) - 20:,} bytes, expected {len(content):,}" in said.text
    (folder / PART).unlink()
    said = verify(capsys, folder)
    assert said.status == 1
    assert f"{folder}/{PART}: is missing, though the manifest lists it" in said.text


def test_a_part_of_another_run(whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = copied(whole_run / "retrievals", tmp_path)
    shutil.copy(whole_run / "claim_retrievals" / PART, folder / PART)
    assert {"files", "footers"} <= verify(capsys, folder).failed
    list_file_again(folder, PART, rows=manifest_of(whole_run / "claim_retrievals").rows)
    said = verify(capsys, folder)
    assert said.failed == {"footers", "counts"}
    assert "a part of another run was copied in" in said.text
    assert f"{folder}/manifest.json: counts 10 rows written, 4 lie there" in said.text


def halve(counts: dict[str, Any]) -> None:
    counts["read"] //= 2


EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str, str]] = {
    "counts": (lambda m: halve(m["counts"]), "counts", "counts 21 records read, but 40 accepted"),
    "rows_written": (lambda m: m["counts"].update(rows_written=7), "counts", "counts 7 rows written"),
    "negative": (lambda m: m["counts"].update(read=-1), "manifest", "a count is no whole number from 0"),
    "sha256": (lambda m: m["parts"][0].update(sha256="0" * 64), "files", "expected 000000000000… from"),
    "no sha256": (lambda m: m["parts"][0].update(sha256="?"), "manifest", "SHA-256 of 64 hex digits"),
    "bytes": (lambda m: m["parts"][0].update(bytes=1), "files", "bytes, expected 1 from"),
    "rows": (lambda m: m["parts"][0].update(rows=1), "rows", "rows, expected 1 from"),
    "settings": (lambda m: m["settings"].update(passage_words=99), "fingerprint", "one of them was changed"),
    "fingerprint": (lambda m: m.update(fingerprint="f" * 64), "fingerprint", "fingerprint is ffffffffffff…"),
    "maker": (lambda m: m.update(created_by="someone"), "manifest", "was created by 'someone'"),
    "table": (lambda m: m.update(table="recipes"), "manifest", "the table 'recipes'"),
    "version": (lambda m: m.update(schema_version=99), "manifest", "has schema version 99"),
    "twice": (lambda m: m["parts"].append(m["parts"][0]), "manifest", "lists a part twice"),
    "no settings": (lambda m: m.pop("settings"), "manifest", "cannot be read (KeyError: 'settings')"),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("sealed", [True, False])
def test_an_edited_manifest(
    whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, edit: str, sealed: bool
) -> None:
    """Its checksum tells of an edit; where that was made to fit again, what it says is found to be wrong."""
    change, check, message = EDITS[edit]
    folder = copied(whole_run / "passages", tmp_path)
    edit_manifest(folder, change, sealed=sealed)
    said = verify(capsys, folder)
    assert said.status == 1
    assert check in said.failed
    assert message in said.text
    assert ("was changed after it was written" in said.text) == (not sealed)


def test_a_manifest_that_is_cut_short_or_missing(
    whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = copied(whole_run / "passages", tmp_path)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text()[:-9])
    said = verify(capsys, folder)
    assert said.status == 1
    assert said.failed == {"manifest"} and f"{manifest}: is not JSON" in said.text
    manifest.unlink()
    said = verify(capsys, folder)
    assert said.status == 1
    assert f"{folder}: its manifest.json is missing, though its parts are there" in said.text
    (folder / ".work").mkdir()
    (folder / ".work" / "plan.json").write_text("{}")
    said = verify(capsys, tmp_path)  # as a step of a run
    assert said.status == 1
    assert f"{folder}: has no manifest.json: it is unfinished" in said.text


@pytest.mark.parametrize("name", ["../secret.parquet", "/etc/passwd", "a/../../secret.parquet", ".work", ""])
def test_a_name_that_leads_out_of_the_folder_is_not_read(
    whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, name: str
) -> None:
    folder = copied(whole_run / "passages", tmp_path)
    shutil.copy(folder / PART, tmp_path / "secret.parquet")
    edit_manifest(folder, lambda manifest: manifest["parts"][0].update(name=name))
    said = verify(capsys, folder)
    assert said.status == 1
    assert said.failed == {"manifest"}
    assert f"names the file {name!r}; a plain file name is expected" in said.text


def test_what_does_not_belong_there(whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = copied(whole_run / "labels", tmp_path)
    strays = {
        "part-00007-00000.parquet": "is not listed in manifest.json",
        "notes.txt": "is not listed in manifest.json",
        "rejects/odd.parquet.exe": "is not listed in manifest.json",
        ".part-00000-00000.parquet.tmp-x1": "is a file that was never finished",
        ".lock": "a run is at work here, or was killed",
        ".work/units/00000-000000.parquet": "is left of a run that did not end",
    }
    assert verify(capsys, folder).failed == set()
    for name, message in strays.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
        said = verify(capsys, folder)
        assert said.status == 1 and said.failed == {"nothing else"}
        assert message in said.text
        (folder / name).unlink()
        for parent in ("rejects", ".work"):
            shutil.rmtree(folder / parent, ignore_errors=True)


def test_rejects_that_are_gone_or_of_another_run(
    whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for step in ("passages", "retrievals"):
        folder = copied(whole_run / step, tmp_path)
        [rejects] = (folder / "rejects").iterdir()
        (tmp_path / "kept").write_bytes(rejects.read_bytes())
        rejects.unlink()
        said = verify(capsys, folder)
        assert said.status == 1 and said.failed == {"rejects"}
        assert "holds 0 records rejected as bad_" in said.text
        rejects.write_bytes((tmp_path / "kept").read_bytes())
        assert verify(capsys, folder).status == 0
        flip_byte(rejects, 60)
        assert verify(capsys, folder).failed == {"rejects"}
    folder = tmp_path / "passages"
    shutil.rmtree(folder)
    folder = copied(whole_run / "passages", tmp_path)
    edit_manifest(folder, lambda manifest: manifest.update(settings={}))
    content = manifest_of(folder)
    given = result_fingerprint(content.table, {}, content.inputs)
    edit_manifest(folder, lambda manifest: manifest.update(fingerprint=given))
    said = verify(capsys, folder)
    assert said.failed == {"footers", "rejects"}
    assert (
        f"rejects/part-00000-00000.parquet: is of the run {fingerprint_of(whole_run / 'passages')}"
        in said.text
    )


def fingerprint_of(folder: Path) -> str:
    return f"{manifest_of(folder).fingerprint[:12]}…"


def test_control_characters_of_a_manifest_are_harmless(
    whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = copied(whole_run / "passages", tmp_path)
    edit_manifest(folder, lambda manifest: manifest["parts"][0].update(name="\x1b[2J\u202e.parquet"))
    said = verify(capsys, folder)
    assert said.status == 1
    assert "\x1b" not in said.text and "\u202e" not in said.text


def test_a_trained_model(world: World, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [
        {
            "question": f"what of {word} ?",
            "answers": [word],
            "positive_ctxs": [{"title": word, "text": f"it is said of {word}"}],
        }
        for word in ("paris", "germany", "gold", "museums")
    ]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    model = tmp_path / "model"
    rag_beam(
        "train_retriever",
        questions=tmp_path / "train.json",
        question_encoder=world.question_encoder,
        passage_encoder=world.passage_encoder,
        batch_questions=2,
        epochs=1,
        num_threads=1,
        output=model,
    )
    said = verify(capsys, model)
    assert said.status == 0, said.text
    assert said.failed == said.skipped == set()
    weights = model / "question_encoder" / "model.safetensors"
    flip_byte(weights, -5)
    assert f"{weights}: its content has SHA-256" in verify(capsys, model).text
    flip_byte(weights, -5)
    (model / "question_encoder" / "code.py").write_text("")
    assert verify(capsys, model).failed == {"nothing else"}
    (model / "question_encoder" / "code.py").unlink()
    (model / "history.parquet").unlink()
    assert "files" in verify(capsys, model).failed
    edit_manifest(model, lambda manifest: manifest["details"]["files"][0].update(name="a/../../train.json"))
    said = verify(capsys, model)
    assert "model" in said.failed and "names the file '..'" in said.text
