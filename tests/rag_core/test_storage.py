"""What has a name in the storage is whole, and names are what they look like."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rag_core.storage import TEMPORARY_MARK, LocalStorage, file_name, file_sha256, file_stem, join

STORAGE = LocalStorage()


def everything_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_file_appears_when_the_block_ends_and_not_before(tmp_path):
    path = str(tmp_path / "deep" / "er" / "file.bin")
    with STORAGE.create(path) as file:
        file.write(b"half")
        file.flush()
        assert not STORAGE.exists(path)
        [temporary] = STORAGE.list_files(str(tmp_path))
        assert TEMPORARY_MARK in file_name(temporary)
        file.write(b" whole")
    assert everything_below(tmp_path) == ["deep", "deep/er", "deep/er/file.bin"]
    assert Path(path).read_bytes() == b"half whole"
    assert STORAGE.size(path) == 10


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_nothing_not_even_a_temporary(tmp_path, error):
    path = str(tmp_path / "file.bin")
    with pytest.raises(error), STORAGE.create(path) as file:
        file.write(b"half")
        raise error
    assert everything_below(tmp_path) == []


def test_an_exception_leaves_what_was_there_before(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"the old content")
    with pytest.raises(ValueError), STORAGE.create(str(path)) as file:
        file.write(b"new")
        raise ValueError
    assert path.read_bytes() == b"the old content"
    assert everything_below(tmp_path) == ["file.bin"]


def test_a_reader_sees_the_old_content_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"the old and longer content")
    with STORAGE.create(str(path)) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"the old and longer content"
    assert path.read_bytes() == b"new"


def test_a_killed_writer_leaves_only_a_temporary(tmp_path):
    """The name stays free: a rerun sees no file there, and knows the temporary by its mark."""
    writer = (
        "import sys, time\nfrom rag_core.storage import LocalStorage\n"
        "with LocalStorage().create(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush(); print('writing', flush=True); time.sleep(60)\n"
    )
    path = tmp_path / "file.bin"
    process = subprocess.Popen([sys.executable, "-c", writer, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    [left] = everything_below(tmp_path)
    assert TEMPORARY_MARK in left
    assert not path.exists()


def test_files_have_the_permissions_of_the_umask_not_those_of_temporaries(tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"")
    with STORAGE.create(str(tmp_path / "file")) as file:
        file.write(b"")
    assert stat.S_IMODE(os.stat(tmp_path / "file").st_mode) == stat.S_IMODE(os.stat(other).st_mode)


def test_create_takes_a_bare_file_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with STORAGE.create("file") as file:
        file.write(b"here")
    assert (tmp_path / "file").read_bytes() == b"here"


def test_file_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, example B.1
    assert file_sha256(STORAGE, str(tmp_path / "file")) == expected


def test_open_of_nothing_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        STORAGE.open(str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError):
        STORAGE.size(str(tmp_path / "none"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in [
        "a.json",
        "b.json",
        "c.txt",
        "sub/d.json",
        "sub/deep/e.json",
        ".hidden/f.json",
        "odd[1].json",
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_glob_gives_files_sorted_and_no_folders(tree):
    found = [path.removeprefix(f"{tree}/") for path in STORAGE.glob(f"{tree}/*")]
    assert found == ["a.json", "b.json", "c.txt", "odd[1].json"]
    found = [path.removeprefix(f"{tree}/") for path in STORAGE.glob(f"{tree}/**/*.json")]
    assert found == ["a.json", "b.json", "odd[1].json", "sub/d.json", "sub/deep/e.json"]
    assert STORAGE.glob(f"{tree}/none*") == []


def test_glob_takes_a_name_with_wildcard_characters_as_the_file_it_names(tree):
    assert STORAGE.glob(f"{tree}/odd[1].json") == [f"{tree}/odd[1].json"]
    assert STORAGE.glob(f"{tree}/a.json") == [f"{tree}/a.json"]


@pytest.mark.parametrize("spelling", ["{}", "{}/", "./{}", "{}/."])
def test_list_files_spells_paths_as_the_folder_is_spelt(tree, monkeypatch, spelling):
    """Callers compare what they list with what they join."""
    monkeypatch.chdir(tree)
    folder = spelling.format("sub")
    assert STORAGE.list_files(folder) == [join(folder, "d.json"), join(folder, "deep", "e.json")]


def test_list_files_goes_to_any_depth_and_bears_with_no_folder(tree):
    assert STORAGE.list_files(str(tree / "none")) == []
    found = [path.removeprefix(f"{tree}/") for path in STORAGE.list_files(str(tree))]
    expected = [".hidden/f.json", "a.json", "b.json", "c.txt", "odd[1].json", "sub/d.json", "sub/deep/e.json"]
    assert found == expected


def test_remove_takes_files_and_folders_and_bears_with_nothing(tree):
    STORAGE.remove(str(tree / "a.json"))
    STORAGE.remove(str(tree / "sub"))
    STORAGE.remove(str(tree / "never there"))
    assert not STORAGE.exists(str(tree / "a.json"))
    assert not STORAGE.exists(str(tree / "sub"))
    assert STORAGE.exists(str(tree / "b.json"))


def test_remove_of_a_link_leaves_what_it_leads_to(tree):
    (tree / "link").symlink_to(tree / "sub")
    STORAGE.remove(str(tree / "link"))
    assert (tree / "sub" / "d.json").exists()
    assert not (tree / "link").exists()


def test_folders_are_told_from_files(tree):
    assert STORAGE.is_folder(str(tree / "sub"))
    assert not STORAGE.is_folder(str(tree / "a.json"))
    assert not STORAGE.is_folder(str(tree / "none"))
    with STORAGE.held_locally(str(tree / "a.json")) as local:
        assert local == str(tree / "a.json")


@pytest.mark.parametrize(
    "parts, path",
    [
        (("out", "a"), "out/a"),
        (("out/", "a"), "out/a"),
        (("out", "a", "b.parquet"), "out/a/b.parquet"),
        (("gs://bucket/out/", "a"), "gs://bucket/out/a"),
        (("/", "a"), "/a"),
        (("out", ""), "out/"),
    ],
)
def test_join(parts, path):
    assert join(*parts) == path


@pytest.mark.parametrize(
    "path, name, stem",
    [
        ("a/wiki_00.json.gz", "wiki_00.json.gz", "wiki_00"),
        ("wiki_00", "wiki_00", "wiki_00"),
        ("gs://bucket/corpus/enwiki.xml.bz2", "enwiki.xml.bz2", "enwiki"),
        ("folder/", "folder", "folder"),
        ("a/.hidden", ".hidden", ".hidden"),
        ("a/.hidden.json", ".hidden.json", ".hidden"),
        ("a.b/c", "c", "c"),
    ],
)
def test_file_name_and_stem(path, name, stem):
    assert file_name(path) == name
    assert file_stem(path) == stem
