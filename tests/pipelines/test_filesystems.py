"""Storage over Beam's FileSystems: the disk, and an object store in memory."""

import io
import os
from pathlib import Path

import pytest

from pipelines import filesystems
from pipelines.dataset.reader import open_dataset
from pipelines.filesystems import STORAGE, BeamStorage, StoreFailed, is_local
from rag_core.errors import UsageError
from tests.pipelines.commands import read_table
from tests.pipelines.dataset.running import argv
from tests.pipelines.dataset.small_stage import Sources, computed, main, set_trap, write_records
from tests.pipelines.memory_files import OBJECTS, MemoryFileSystem, Upload

FOLDER = "mem://bucket/out"


@pytest.fixture(autouse=True)
def empty_store(monkeypatch, tmp_path):
    """No objects, and temporary files in a folder of the test's own."""
    OBJECTS.clear()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(filesystems.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))


def put(path: str, content: bytes) -> None:
    with STORAGE.create(path) as file:
        file.write(content)


@pytest.fixture(params=["disk", "object store"])
def folder(request, tmp_path: Path) -> str:
    """A folder of either kind: they must behave alike."""
    return FOLDER if request.param == "object store" else str(tmp_path / "out")


def test_what_is_put_is_there(folder):
    assert not STORAGE.exists(folder)
    put(f"{folder}/sub/a.bin", b"content")
    path = f"{folder}/sub/a.bin"
    assert STORAGE.exists(path)
    assert STORAGE.size(path) == 7
    with STORAGE.open(path) as file:
        assert file.read(3) == b"con"
        file.seek(5)
        assert file.read() == b"nt"
    assert STORAGE.exists(folder)
    assert STORAGE.is_folder(folder)
    assert STORAGE.is_folder(f"{folder}/sub")
    assert not STORAGE.is_folder(path)
    with STORAGE.held_locally(path) as local:
        assert Path(local).read_bytes() == b"content"


def test_what_is_put_again_is_replaced_whole(folder):
    put(f"{folder}/a", b"the old and longer content")
    put(f"{folder}/a", b"new")
    with STORAGE.open(f"{folder}/a") as file:
        assert file.read() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_create_puts_nothing(folder, error):
    put(f"{folder}/before", b"whole")
    for name in ("before", "never"):
        with pytest.raises(error), STORAGE.create(f"{folder}/{name}") as file:
            file.write(b"half")
            raise error
    assert STORAGE.list_files(folder) == [f"{folder}/before"]
    with STORAGE.open(f"{folder}/before") as file:
        assert file.read() == b"whole"


def test_an_upload_that_ends_half_way_leaves_no_object(monkeypatch):
    """Closing an upload makes an object of what had arrived."""

    def write_and_fail(self, data):
        super(Upload, self).write(data[:2])
        raise ConnectionError

    monkeypatch.setattr(Upload, "write", write_and_fail, raising=False)
    with pytest.raises(ConnectionError):
        put(f"{FOLDER}/a", b"content")
    assert OBJECTS == {}


def test_globs_lists_and_removals(folder):
    for name in ["b.json", "a.json", "c.txt", "sub/d.json"]:
        put(f"{folder}/{name}", b"")
    assert STORAGE.glob(f"{folder}/*.json") == [f"{folder}/a.json", f"{folder}/b.json"]
    assert STORAGE.glob(f"{folder}/a.json") == [f"{folder}/a.json"]
    assert STORAGE.glob(f"{folder}/none") == []
    everything = [f"{folder}/{name}" for name in ["a.json", "b.json", "c.txt", "sub/d.json"]]
    assert STORAGE.list_files(folder) == everything
    assert STORAGE.list_files(f"{folder}/none") == []
    STORAGE.remove(f"{folder}/sub")
    STORAGE.remove(f"{folder}/a.json")
    STORAGE.remove(f"{folder}/none")
    assert STORAGE.list_files(folder) == [f"{folder}/b.json", f"{folder}/c.txt"]
    assert not STORAGE.exists(f"{folder}/sub")


def test_nothing_there_is_a_missing_file(folder):
    for operation in (STORAGE.open, STORAGE.size):
        with pytest.raises(FileNotFoundError):
            operation(f"{folder}/none")


def test_a_store_that_fails_while_it_is_read_is_told_and_read_on(monkeypatch):
    class Failing(io.BytesIO):
        def readinto(self, buffer):
            if self.tell() == 4 and failures:
                raise failures.pop()
            return super().readinto(memoryview(buffer)[:4])

    failures = [ConnectionResetError("reset by peer"), ValueError("502")]
    monkeypatch.setattr(MemoryFileSystem, "open", lambda *_: Failing(b"content"))
    put(f"{FOLDER}/a", b"content")
    with STORAGE.open(f"{FOLDER}/a") as file:
        with pytest.raises(StoreFailed, match=rf"{FOLDER}/a: the store did not answer as expected \(502\)"):
            file.read()
        with pytest.raises(ConnectionResetError):
            file.read()
        file.seek(0)
        assert file.read() == b"content"


def test_a_local_copy_is_made_once_and_again_when_the_object_changed(monkeypatch):
    path = f"{FOLDER}/shard.bin"
    put(path, b"one")
    with STORAGE.held_locally(path) as copy:
        written = os.stat(copy).st_mtime_ns
    with STORAGE.held_locally(path) as again:
        assert again == copy
        assert os.stat(copy).st_mtime_ns == written
    put(path, b"two")  # of the same size
    with STORAGE.held_locally(path) as other:
        assert Path(other).read_bytes() == b"two"


def test_local_paths_are_told_from_urls():
    assert is_local("out/passages")
    assert is_local("/tmp/a:b")
    assert not is_local("gs://bucket/out")
    assert not is_local("hdfs://host:8020/out")


def test_a_scheme_without_a_file_system_says_what_to_install():
    def hold(path: str) -> None:
        with STORAGE.held_locally(path):
            pass

    for operation in (STORAGE.glob, STORAGE.exists, STORAGE.list_files, STORAGE.open, hold):
        with pytest.raises(
            UsageError, match=r"nosuch://bucket/a: no file system is installed .*rag-beam\[gcp\]"
        ):
            operation("nosuch://bucket/a")


def test_storage_is_the_one_of_all_paths():
    assert isinstance(STORAGE, BeamStorage)


SOURCES: Sources = [
    [[["a", 1, "accept"], ["b", 2, "accept"]], [["a", 1, "accept"], ["c", 1, "bad_row"]]],
    [[["d", 1, "accept"], ["b", 1, "accept"]]],
]
# the same sizes everywhere, and other duplicates
OTHERS: Sources = [
    [[["a", 1, "accept"], ["b", 2, "accept"]], [["e", 1, "accept"], ["c", 1, "bad_row"]]],
    [[["e", 1, "accept"], ["d", 1, "accept"]]],
]


def test_a_stage_makes_resumes_and_overwrites_a_data_set_on_an_object_store(tmp_path):
    records = write_records(tmp_path / "records.json", SOURCES)
    trap = set_trap(tmp_path / "trap.json", "1-0", "raise")
    local = argv(tmp_path, sources=SOURCES)
    remote = [FOLDER if value == str(tmp_path / "out") else value for value in local]
    assert main([*remote, "--trap", str(trap)]) == 1
    trap.unlink()
    assert main(remote) == 0
    assert sorted(computed(records)) == ["0-0", "0-1", "1-0", "1-0"]
    for sources in (SOURCES, OTHERS):
        write_records(records, sources)
        assert main([*remote, "--overwrite"]) == 0
        assert main([*local, "--overwrite"]) == 0
        rows = [
            row
            for batch in open_dataset(STORAGE, FOLDER, "passages").read(STORAGE)
            for row in batch.to_pylist()
        ]
        assert rows == read_table(tmp_path / "out").to_pylist()
        names = [path.removeprefix(f"{FOLDER}/") for path in sorted(OBJECTS)]
        assert names == sorted(
            path.relative_to(tmp_path / "out").as_posix()
            for path in (tmp_path / "out").rglob("*")
            if path.is_file()
        )
    assert main(remote) == 0
