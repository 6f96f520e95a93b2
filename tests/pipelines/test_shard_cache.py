"""An index on an object store is searched through bounded copies on the worker's disk."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.pipelines.commands import read_table, status_of
from tests.pipelines.conftest import World
from tests.pipelines.damage import flip_byte
from tests.pipelines.memory_files import OBJECTS, MemoryFileSystem

INDEX = "mem://bucket/index"


@pytest.fixture
def reads(world: World, monkeypatch) -> list[str]:
    """Puts the world's index on the store; notes which of its objects are opened."""
    OBJECTS.clear()
    for path in Path(world.made("index")).iterdir():
        if path.is_file():
            OBJECTS[f"{INDEX}/{path.name}"] = path.read_bytes(), 1.0
    opened: list[str] = []
    open_object = MemoryFileSystem.open

    def noting_open(self, path, *args, **kwargs):
        opened.append(path.rsplit("/", 1)[-1])
        return open_object(self, path, *args, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "open", noting_open)
    return opened


def retrieve(
    world: World, index: str, cache: Path, output: Path, most_bytes: int = 1 << 30, **more: object
) -> int:
    return status_of(
        "retrieve",
        index=index,
        questions=world.questions,
        encoder=world.question_encoder,
        n_docs=4,
        num_threads=1,
        shard_cache_dir=cache,
        shard_cache_bytes=most_bytes,
        output=output,
        **more,
    )


def copies(cache: Path) -> dict[str, int]:
    """Names and bytes of the copies."""
    return {path.name: path.stat().st_size for path in cache.iterdir() if len(path.name) == 64}


def test_files_of_shards_are_copied_once_and_proved(world, reads, tmp_path):
    cache = tmp_path / "cache"
    for number in range(2):
        assert retrieve(world, INDEX, cache, tmp_path / f"out{number}") == 0
        assert read_table(tmp_path / f"out{number}").equals(read_table(world.made("retrievals")))
    shards = [name for name in reads if name.endswith((".npy", ".arrow"))]
    assert len(shards) == len(set(shards)) == 4  # vectors and passages of two shards
    held = copies(cache)
    assert len(held) == 4
    for name in held:
        assert hashlib.sha256((cache / name).read_bytes()).hexdigest() == name


def test_no_more_bytes_than_allowed_give_the_same(world, reads, tmp_path):
    """Room for a shard's vectors and passages, so that those of the other have to go."""
    sizes = [os.path.getsize(path) for path in Path(world.made("index")).glob("shard-*")]
    most, cache = max(sizes) + sorted(sizes)[-2], tmp_path / "cache"
    assert most < sum(sizes)
    assert retrieve(world, INDEX, cache, tmp_path / "out", most) == 0
    assert read_table(tmp_path / "out").equals(read_table(world.made("retrievals")))
    assert 0 < sum(copies(cache).values()) <= most
    assert len(copies(cache)) < 4


def test_too_few_bytes_for_a_file_are_one_sentence(world, reads, tmp_path, capsys):
    assert retrieve(world, INDEX, tmp_path / "cache", tmp_path / "out", 100) == 2
    assert "rag-beam: --shard_cache_bytes 100: mem://bucket/index/shard-" in capsys.readouterr().err


def test_a_local_index_is_not_copied_and_the_options_do_not_count(world, tmp_path, capsys):
    assert retrieve(world, world.made("index"), tmp_path / "cache", tmp_path / "out") == 0
    assert not (tmp_path / "cache").exists()
    capsys.readouterr()
    assert retrieve(world, world.made("index"), tmp_path / "other", tmp_path / "out", 5) == 0
    assert "nothing to do" in capsys.readouterr().out
    settings = json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]
    assert not [name for name in settings if "shard_cache" in name]


@pytest.mark.parametrize("ending", [".vectors.npy", pytest.param(".passages.arrow", marks=pytest.mark.slow)])
def test_a_copy_that_was_damaged_is_told_removed_and_made_again(world, reads, tmp_path, capsys, ending):
    cache = tmp_path / "cache"
    assert retrieve(world, INDEX, cache, tmp_path / "first") == 0
    [name] = [
        name
        for name in copies(cache)
        if OBJECTS[f"{INDEX}/shard-00001{ending}"][0] == (cache / name).read_bytes()
    ]
    flip_byte(cache / name, -20)
    capsys.readouterr()
    assert retrieve(world, INDEX, cache, tmp_path / "second") == 2
    told = capsys.readouterr().err
    assert (
        f"{cache / name}: the copy of {INDEX}/shard-00001{ending} was damaged on this machine's disk" in told
    )
    assert "Traceback" not in told
    assert retrieve(world, INDEX, cache, tmp_path / "second") == 0
    assert read_table(tmp_path / "second").equals(read_table(world.made("retrievals")))


def test_a_damaged_object_is_told_and_not_kept(world, reads, tmp_path, capsys):
    path = f"{INDEX}/shard-00000.vectors.npy"
    content = bytearray(OBJECTS[path][0])
    content[-20] ^= 0xFF
    OBJECTS[path] = bytes(content), 2.0
    assert retrieve(world, INDEX, tmp_path / "cache", tmp_path / "out") == 2
    assert f"rag-beam: {path}: damaged, or a file of another index" in capsys.readouterr().err
    assert copies(tmp_path / "cache") == {}


def test_copies_lie_on_a_disk(world, tmp_path, capsys):
    assert retrieve(world, world.made("index"), "gs://bucket/cache", tmp_path / "out") == 2
    assert (
        "--shard_cache_dir gs://bucket/cache: expected a folder on the worker's own disk"
        in capsys.readouterr().err
    )
