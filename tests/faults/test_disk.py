"""Disks that are full: one sentence, what is whole stays, and the same command goes on once there is room."""

import contextlib
import errno
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipelines import filesystems
from pipelines.dataset.manifest import MANIFEST
from pipelines.dataset.target import WORK
from pipelines.filesystems import STORAGE
from pipelines.training.model_files import save_locally
from rag_core.errors import WriteFailed
from rag_core.storage import TEMPORARY_MARK
from rag_core.tables import inspect_table
from tests.faults.full_disk import SmallDisk, mounted, no_room_at, told_path
from tests.faults.stage_commands import Command, result, status
from tests.pipelines import memory_files  # noqa: F401 (registers mem://)


def check_unfinished(output: Path) -> None:
    """Nothing half-written has a name, and nobody takes the folder for whole."""
    for path in output.rglob("*"):
        assert TEMPORARY_MARK not in path.name
        if path.suffix == ".parquet":
            inspect_table(STORAGE, str(path), prove=True)
    assert not (output / MANIFEST).exists()


def committed(output: Path) -> dict[str, int]:
    """When each unit was written."""
    return {str(path): path.stat().st_mtime_ns for path in (output / WORK).rglob("units/*.parquet")}


def check_it_goes_on(command: Command, output: Path, expected: Any) -> None:
    """The same command keeps what was whole, and ends as if nothing had happened."""
    check_unfinished(output)
    before = committed(output)
    assert status(command, output) == 0
    assert committed(output).items() <= before.items()
    assert result(output) == expected


FILES = [
    ("chunk", f"out/{WORK}/total.json"),
    ("chunk", "00001-000000.rejects.parquet"),
    ("chunk", "00000-000000.keys"),
    ("chunk", "00000.duplicates"),
    ("chunk", "out/part-00001-00000.parquet"),
    ("chunk", f"out/{MANIFEST}"),
    ("index", "out/shard-00001.passages.arrow"),
    ("index", f"out/{MANIFEST}"),
    ("approximate index", "out/shard-00000.faiss"),
    ("train_retriever", "checkpoint.pt"),
]
MORE_FILES = [
    ("chunk", f"out/{WORK}/plan.json"),
    ("chunk", "00000-000000.parquet"),
    ("chunk", "out/rejects/part-00001-00000.parquet"),
    ("encode", "00000-000001.parquet"),
    ("encode", f"out/{MANIFEST}"),
    ("index", "out/shard-00001.vectors.npy"),
    ("approximate index", "out/trained.faiss"),
    ("retrieve", f"{WORK}/questions/{MANIFEST}"),
    ("retrieve", "out/part-00000-00000.parquet"),
    ("generate", "00000-000000.parquet"),
    ("classify", "out/part-00000-00000.parquet"),
    ("evaluate", ".trec"),
    ("train_retriever", "question_encoder/model.safetensors"),
    ("train_retriever", "history.parquet"),
    ("train_retriever", "history.png"),
    ("train_retriever", f"out/{MANIFEST}"),
]


@pytest.mark.parametrize(
    "stage, ending", [*FILES, *(pytest.param(*file, marks=pytest.mark.slow) for file in MORE_FILES)]
)
def test_a_file_without_room_is_named_and_the_same_command_goes_on(
    commands: dict[str, Command],
    undisturbed: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
    ending: str,
) -> None:
    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        met = no_room_at(patch, ending)
        assert status(commands[stage], output) == 1
    assert told_path(capsys) == met[0]
    check_it_goes_on(commands[stage], output, undisturbed(stage))


def test_a_failure_that_cannot_be_noted_on_the_disk_is_told_all_the_same(
    commands: dict[str, Command],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Only the runner's text comes back of it."""
    met = no_room_at(monkeypatch, "total.json")
    no_room_at(monkeypatch, "failure.json")
    assert status(commands["chunk"], tmp_path / "out") == 1
    assert told_path(capsys) == met[0]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    for folder in mounted(tmp_path / "disk"):
        yield SmallDisk(folder)


@pytest.mark.parametrize(
    "stage", ["chunk", "index", *(pytest.param(s, marks=pytest.mark.slow) for s in ("encode", "retrieve"))]
)
def test_a_disk_that_is_given_a_little_room_at_a_time(
    commands: dict[str, Command],
    undisturbed: Callable[[str], Any],
    small_disk: SmallDisk,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    stage: str,
) -> None:
    """Each run gets further than the one before, and keeps what that one made."""
    output = small_disk.folder / "out"
    before: dict[str, int] = {}
    runs = 0
    for pages in [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256]:
        small_disk.leave(pages * 4096)
        code = status(commands[stage], output)
        if code == 0:
            break
        assert code == 1
        assert told_path(capsys).startswith(str(output))
        small_disk.make_room()  # for the check to read
        check_unfinished(output)
        after = committed(output)
        assert before.items() <= after.items()
        before = after
        runs += 1
    assert runs > 3
    assert code == 0
    assert result(output) == undisturbed(stage)


@pytest.mark.slow
def test_training_on_a_disk_without_room_for_its_checkpoint_and_then_for_its_model(
    commands: dict[str, Command],
    undisturbed: Callable[[str], Any],
    small_disk: SmallDisk,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = small_disk.folder / "out"
    expected = undisturbed("train_retriever")
    capsys.readouterr()
    told = []
    for free in (16 << 10 << step for step in range(10)):
        small_disk.leave(free)
        code = status(commands["train_retriever"], output)
        if code == 0:
            break
        assert code == 1
        told.append(Path(told_path(capsys)).name)
        check_unfinished(output)
    assert code == 0
    assert told[0] == "checkpoint.pt"
    assert result(output) == expected


def test_a_disk_without_room_for_another_file(
    commands: dict[str, Command], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its inodes are used up: nothing can be made, not even a lock."""
    for folder in mounted(tmp_path / "disk", "nr_inodes=2"):
        (folder / "out").mkdir()
        assert status(commands["chunk"], folder / "out") == 1
        assert told_path(capsys) == str(folder / "out" / ".lock")


@pytest.mark.skipif(os.geteuid() == 0, reason="root mounts the small file systems itself")
def test_small_disks_in_a_namespace() -> None:
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces on this machine")
    tests = "little_room or another_file or read_only"
    files = [__file__, str(Path(__file__).with_name("test_unwritable_outputs.py"))]
    run = [sys.executable, "-m", "pytest", "-q", "-k", tests, *files]
    subprocess.run(["unshare", "-rm", *run], check=True)


def test_an_object_store_whose_files_find_no_room_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystems.tempfile, "TemporaryFile", lambda: open("/dev/full", "w+b"))  # noqa: SIM115
    refused = rf"^{tempfile.gettempdir()} \(where mem://bucket/a is made\): cannot be written"
    with pytest.raises(WriteFailed, match=refused), STORAGE.create("mem://bucket/a") as file:
        file.write(b"content")
    assert not STORAGE.exists("mem://bucket/a")


def refuse_to_keep(monkeypatch: pytest.MonkeyPatch, ending: str, number: int) -> None:
    """Files whose path ends so take every write, and fail when the disk is to have it: over NFS, say."""
    keep = os.fsync

    def refused(descriptor: int) -> None:
        if f"{ending}{TEMPORARY_MARK}" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        keep(descriptor)

    monkeypatch.setattr("rag_core.storage.os.fsync", refused)


@pytest.mark.parametrize(
    "number, told",
    [
        (errno.EDQUOT, "Disk quota exceeded); make room there"),
        (errno.EIO, "Input/output error); see to it that it can be written"),
    ],
)
@pytest.mark.parametrize(
    "stage, name", [("chunk", "part-00000-00000.parquet"), ("index", "shard-00001.passages.arrow")]
)
def test_a_file_that_is_refused_when_all_of_it_is_written(
    commands: dict[str, Command],
    undisturbed: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
    name: str,
    number: int,
    told: str,
) -> None:
    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        refuse_to_keep(patch, name, number)
        assert status(commands[stage], output) == 1
    sentence = f"rag-beam: {output / name}: cannot be written ({told} and run the same command again: "
    assert capsys.readouterr().err == f"{sentence}what is whole is kept\n"
    check_it_goes_on(commands[stage], output, undisturbed(stage))


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """No file of this process may be larger than two kilobytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 10, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_model_that_finds_no_room_on_its_way(tmp_path: Path) -> None:
    weights = {"weight": torch.zeros(1_000)}
    refused = r"cannot be written there on its way to the output .* TMPDIR"
    with small_files(), pytest.raises(WriteFailed, match=refused):
        save_locally(lambda folder: save_file(weights, folder / "model.safetensors"), tmp_path)


def test_files_that_may_not_be_large(
    commands: dict[str, Command], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_files():
        assert status(commands["chunk"], tmp_path / "out") == 1
    text = capsys.readouterr().err
    assert re.fullmatch(r"rag-beam: \S+: cannot be written \(File too large\); allow larger files.*\n", text)
    check_unfinished(tmp_path / "out")
