"""What may be made in which folder: ours goes on, another's is refused and left as it is."""

import contextlib
import json
from pathlib import Path

import pytest

from pipelines.dataset.lock import locked
from pipelines.dataset.manifest import read_manifest
from pipelines.dataset.target import LOCK, claim, clear_folder
from pipelines.filesystems import STORAGE
from rag_core.errors import UsageError
from tests.pipelines.commands import read_table
from tests.pipelines.dataset.running import SOURCES, UNITS, content, run
from tests.pipelines.dataset.small_stage import (
    RecordsSettings,
    computed,
    target_of,
    write_records,
)


def refusal(folder: Path, capsys, *more: str) -> str:
    """Runs what must be refused with status 2 and one sentence, the folder left as it is."""
    before = content(folder / "out") if (folder / "out").is_dir() else None
    already = computed(folder / "records.json")
    assert run(folder, *more) == 2
    assert computed(folder / "records.json") == already
    if before is not None:
        assert content(folder / "out") == before
    message = capsys.readouterr().err
    assert message.startswith("rag-beam: ")
    assert message.count("\n") == 1
    return message


def test_other_settings_are_refused_and_named(finished, capsys):
    message = refusal(finished, capsys, "--flavour", "sour")
    assert 'flavour was "plain", is "sour"' in message
    assert "--overwrite" in message


def test_other_settings_than_those_of_an_unfinished_run_are_refused_too(stopped, capsys):
    assert 'flavour was "plain", is "sour"' in refusal(stopped, capsys, "--flavour", "sour")


def test_changed_and_other_inputs_are_named(tmp_path, capsys):
    records = tmp_path / "records.json"
    assert run(tmp_path) == 0
    others = write_records(tmp_path / "others.json", SOURCES[:1])
    message = refusal(tmp_path, capsys, "--records", str(others))
    assert f"{others} is a new input" in message
    assert f"{records} is no longer an input" in message
    write_records(records, SOURCES[:1])
    assert f"{records} has changed" in refusal(tmp_path, capsys)


def test_an_input_that_only_moved_is_the_same(finished, capsys):
    (finished / "elsewhere").mkdir()
    moved = (finished / "records.json").rename(finished / "elsewhere" / "records.json")
    assert run(finished, "--records", str(moved)) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_overwrite_starts_afresh(tmp_path):
    assert run(tmp_path, "--rows_per_part", "1") == 0
    assert run(tmp_path, "--flavour", "sour", "--overwrite") == 0
    texts = read_table(tmp_path / "out").column("text").to_pylist()
    assert all(text.startswith("sour ") for text in texts)
    names = [path.name for path in (tmp_path / "out").glob("part-*")]
    assert sorted(names) == ["part-00000-00000.parquet", "part-00001-00000.parquet"]
    assert {computed(tmp_path / "records.json").count(unit) for unit in UNITS} == {2}


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["", "overwrite"])
@pytest.mark.parametrize(
    "files",
    [
        {"notes.txt": b"mine"},
        {"deep/er/photo.jpg": b"mine"},
        {"manifest.json": b'{"name": "a web application"}'},
        {"manifest.json": b"not JSON", "photo.jpg": b"mine"},
        {"part-00000-00000.parquet": b"somebody's"},
        {"deep/.lock": b"mine"},
    ],
    ids=["a file", "a file below", "another's manifest", "no JSON", "a part", "a lock of another's"],
)
def test_a_folder_that_is_not_ours_is_refused_and_left_as_it_is(tmp_path, capsys, files, overwrite):
    for name, data in files.items():
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert str(tmp_path / "out") in refusal(tmp_path, capsys, *overwrite)


def test_a_file_as_output_is_refused(tmp_path, capsys):
    (tmp_path / "out").write_bytes(b"mine")
    assert f"--output {tmp_path / 'out'}: is a file" in refusal(tmp_path, capsys)
    assert (tmp_path / "out").read_bytes() == b"mine"


def test_a_folder_below_a_file_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"mine")
    assert run(tmp_path, output="file/out") == 2
    assert f"--output {tmp_path}/file/out: cannot be written" in capsys.readouterr().err


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    assert run(tmp_path) == 0


def test_a_manifest_edited_by_hand_is_refused_until_overwritten(finished, capsys):
    path = finished / "out" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["counts"]["read"] += 1
    path.write_text(json.dumps(manifest))
    assert f"{path}: was changed after it was written" in refusal(finished, capsys)
    assert run(finished, "--overwrite") == 0
    assert run(finished) == 0


def test_a_complete_folder_that_lost_a_part_is_refused(finished, capsys):
    (finished / "out" / "part-00001-00000.parquet").unlink()
    assert "part-00001-00000.parquet: is missing" in refusal(finished, capsys)


def test_another_table_is_refused(finished, capsys):
    settings = RecordsSettings(records=str(finished / "records.json"), output=str(finished / "out"))
    target = target_of(settings)
    object.__setattr__(target, "table", "questions")
    with pytest.raises(UsageError, match="it holds passages, this would be questions"):
        claim(STORAGE, target, overwrite=False)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("removals", range(10))
def test_an_overwrite_killed_half_way_leaves_a_folder_of_ours(finished, monkeypatch, removals):
    """Wherever it ends: no reader takes the folder for whole, and --overwrite goes on."""
    output = str(finished / "out")
    remove, done = STORAGE.remove, []

    def remove_until_killed(path: str) -> None:
        if len(done) == removals:
            raise Killed
        remove(path)
        done.append(path)

    monkeypatch.setattr(STORAGE, "remove", remove_until_killed)
    with contextlib.suppress(Killed):
        clear_folder(STORAGE, output)
    monkeypatch.undo()
    settings = RecordsSettings(records=str(finished / "records.json"), output=output, unique=True)
    if done and read_manifest(STORAGE, output) is not None:
        with pytest.raises(UsageError, match="is missing"):
            claim(STORAGE, target_of(settings), overwrite=False)
    assert claim(STORAGE, target_of(settings), overwrite=True) is None
    assert sorted(content(Path(output))) == [".work/plan.json"]


@pytest.mark.parametrize("spelling", ["out", "./out", "out/", ".//out"])
def test_overwrite_keeps_the_lock_however_the_folder_is_spelt(finished, monkeypatch, spelling):
    monkeypatch.chdir(finished)
    with locked(spelling):
        clear_folder(STORAGE, spelling)
        assert [path.name for path in Path("out").iterdir()] == [LOCK]
