"""Copies on this machine's disk: made once, bounded, never taken from who uses them."""

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from rag_core.errors import UsageError, WriteFailed
from rag_core.file_cache import FileCache


class Source:
    """Files to copy, and how often each was."""

    def __init__(self) -> None:
        self.copied: list[str] = []

    def fetch(self, key: str, size: int) -> Callable[[BinaryIO], None]:
        def write(copy: BinaryIO) -> None:
            self.copied.append(key)
            copy.write(key[0].encode() * size)

        return write


@pytest.fixture
def source() -> Source:
    return Source()


def use(cache: FileCache, source: Source, key: str, size: int = 10) -> str:
    with cache.held(key, size, source.fetch(key, size), f"store/{key}") as path:
        assert Path(path).read_bytes() == key[0].encode() * size
        return path


def copies(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")} - {".room"}


def test_a_copy_is_made_once(tmp_path, source):
    cache = FileCache(str(tmp_path))
    paths = {use(cache, source, "a"), use(cache, source, "a"), use(FileCache(str(tmp_path)), source, "a")}
    assert len(paths) == 1
    assert source.copied == ["a"]
    use(cache, source, "e", size=0)
    use(cache, source, "e", size=0)
    assert source.copied == ["a", "e"]


def test_the_least_recently_used_goes_first(tmp_path, source):
    cache = FileCache(str(tmp_path), 30)
    for key in ("a", "b", "c", "a", "d"):
        use(cache, source, key)
    assert copies(tmp_path) == {"a", "c", "d"}
    use(cache, source, "eeee", size=25)
    assert copies(tmp_path) == {"eeee"}
    assert source.copied == ["a", "b", "c", "d", "eeee"]


def test_one_in_use_never_goes(tmp_path, source):
    cache = FileCache(str(tmp_path), 20)
    with cache.held("a", 10, source.fetch("a", 10), "store/a") as held:
        for key in ("b", "c", "d"):
            use(cache, source, key)
        assert Path(held).read_bytes() == b"a" * 10
        assert copies(tmp_path) == {"a", "d"}
    use(cache, source, "e", size=20)
    assert copies(tmp_path) == {"e"}


def test_a_file_larger_than_all_copies_may_be_is_one_sentence(tmp_path, source):
    with pytest.raises(
        UsageError, match=r"--shard_cache_bytes 9: store/a has 10 bytes, .*give at least as many"
    ):
        use(FileCache(str(tmp_path), 9), source, "a")
    assert copies(tmp_path) == set()


def test_who_uses_a_copy_does_not_wait_for_others(tmp_path, source):
    """They may be waiting for that copy."""
    cache = FileCache(str(tmp_path), 15)
    with (
        cache.held("a", 10, source.fetch("a", 10), "store/a"),
        pytest.raises(
            UsageError, match=r"all copies there are in use, and one of store/b \(10 bytes\) is needed"
        ),
    ):
        use(cache, source, "b")
    use(cache, source, "b")


def test_who_uses_none_waits_for_room(tmp_path, source):
    cache = FileCache(str(tmp_path), 15)
    held, leave = threading.Event(), threading.Event()

    def keep() -> None:
        with cache.held("a", 10, source.fetch("a", 10), "store/a") as path:
            held.set()
            assert leave.wait(60)
            assert os.path.exists(path)

    keeper = threading.Thread(target=keep)
    keeper.start()
    assert held.wait(60)
    waiter = threading.Thread(target=use, args=(cache, source, "b"))
    waiter.start()
    leave.set()
    for thread in (keeper, waiter):
        thread.join(60)
    assert copies(tmp_path) == {"b"}


def test_a_fetch_that_fails_leaves_no_copy(tmp_path, source):
    cache = FileCache(str(tmp_path))

    def fail(copy: BinaryIO) -> None:
        copy.write(b"half")
        raise UsageError("store/a: damaged")

    with pytest.raises(UsageError, match="damaged"), cache.held("a", 10, fail, "store/a"):
        pass
    assert copies(tmp_path) == set()
    use(cache, source, "a")


def test_what_a_killed_process_left_makes_room_and_is_made_again(tmp_path, source):
    cache = FileCache(str(tmp_path), 25)
    for key in ("a", "b"):
        (tmp_path / f"{key}.part").write_bytes(bytes(10))
        (tmp_path / f"{key}.lock").touch()
    use(cache, source, "a", size=20)
    assert copies(tmp_path) == {"a"}


def test_a_copy_of_another_length_is_made_again(tmp_path, source):
    cache = FileCache(str(tmp_path))
    path = use(cache, source, "a")
    os.truncate(path, 3)
    use(cache, source, "a")
    assert source.copied == ["a", "a"]


def test_a_copy_that_is_dropped_is_made_again(tmp_path, source):
    cache = FileCache(str(tmp_path))
    with cache.held("a", 10, source.fetch("a", 10), "store/a"):
        cache.drop("a")
    use(cache, source, "a")
    assert source.copied == ["a", "a"]


_PROCESS = """
import sys
from rag_core.file_cache import FileCache

def fetch(copy):
    with open("{log}", "a") as log:
        log.write("x")
    copy.write(b"a" * 1_000_000)

print("ready", flush=True)
sys.stdin.readline()
with FileCache("{folder}").held("a", 1_000_000, fetch, "store/a") as path:
    assert open(path, "rb").read() == b"a" * 1_000_000
"""


def test_processes_that_want_the_same_file_make_one_copy(tmp_path):
    log = tmp_path / "log"
    program = _PROCESS.format(log=log, folder=tmp_path / "cache")
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True)
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert log.read_text() == "x"


def test_a_disk_without_room_is_one_sentence_after_others_have_gone(tmp_path, source):
    """A file may not be larger than the process is allowed, which the kernel tells as it tells a full disk."""
    cache = FileCache(str(tmp_path))
    use(cache, source, "a")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with pytest.raises(WriteFailed, match=r"has no room for a copy .* another --shard_cache_dir"):
            use(cache, source, "b", size=2_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert copies(tmp_path) == set()
    use(cache, source, "b", size=2_000)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, source):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--shard_cache_dir .*file: cannot be written"):
        use(FileCache(str(tmp_path / "file")), source, "a")
