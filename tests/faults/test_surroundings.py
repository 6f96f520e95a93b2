"""A hub that does not answer, packages that are not there, closed streams and locked folders: a sentence each."""

import errno
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from pipelines.dataset import reader
from rag_core.storage import Storage
from tests.pipelines.commands import manifest_of, status_of
from tests.pipelines.conftest import World

CLOSED_PORT = "http://127.0.0.1:9"  # nobody listens there


def sentence(capfd: pytest.CaptureFixture) -> str:
    """The only line on standard error."""
    said = capfd.readouterr().err
    assert said.startswith("rag-beam: ") and said.count("\n") == 1, said
    return said


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def busy_hub() -> Iterator[tuple[str, list[str]]]:
    """The address of a hub that is out of order, and the paths that it was asked for."""
    asked: list[str] = []

    class OutOfOrder(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(503)
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), OutOfOrder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def use_hub(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def online(world: World, command: str) -> dict[str, object]:
    """Options that name something on the hub."""
    return {
        "encode": {"passages": world.made("passages"), "encoder": "nobody/no-encoder"},
        "generate": {
            "retrievals": world.made("retrievals"),
            "model": "nobody/no-generator",
            "model_type": "rag_token",
        },
        "chunk": {"input": "nobody/no-corpus", "input_format": "hf_dataset"},
    }[command]


@pytest.mark.parametrize("command", ["encode", "generate", "chunk"])
def test_a_hub_that_cannot_be_reached_is_told(
    world: World, out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, command: str
) -> None:
    use_hub(monkeypatch, CLOSED_PORT)
    assert status_of(command, output=out, **online(world, command)) == 2
    said = sentence(capfd)
    assert "nobody/no-" in said and "Connection refused" in said
    assert not any(path.is_file() for path in out.rglob("*"))


@pytest.mark.parametrize("command", ["encode", "chunk"])
def test_a_hub_that_is_out_of_order_is_not_asked_again_and_again(
    world: World,
    out: Path,
    busy_hub: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    command: str,
) -> None:
    address, asked = busy_hub
    use_hub(monkeypatch, address)
    assert status_of(command, output=out, **online(world, command)) == 2
    assert "nobody/no-" in sentence(capfd)
    assert len([path for path in asked if "nobody" in path]) == 1


def training(world: World, out: Path) -> dict[str, object]:
    return {
        "questions": world.questions,
        "model": world.generator,
        "model_type": "rag_token",
        "n_docs": 0,
        "output": out,
    }


@pytest.mark.parametrize(("package", "processes"), [("matplotlib", "1"), ("accelerate", "2")])
def test_a_package_that_is_not_installed_is_told_with_how_to_install_it(
    world: World,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    package: str,
    processes: str,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    assert status_of("train_rag", **training(world, out)) == 2
    said = sentence(capfd)
    assert package in said and "pip install 'rag-beam[train]'" in said
    assert not out.exists()


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_reader_that_goes_away_ends_the_command(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, command: str
) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert status_of(command, world.made("passages")) == 1
    assert "nobody reads the standard output" in sentence(capfd)


def test_what_was_made_stays_where_nobody_reads_the_standard_output(
    world: World, out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    options = {"embeddings": world.made("embeddings"), "passages": world.made("passages"), "output": out}
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert status_of("index", **options) == 1
    sentence(capfd)
    assert manifest_of(out).table == "mips_index"
    assert status_of("index", **options) == 0
    assert "nothing to do" in capfd.readouterr().out


def test_a_closed_standard_input_is_no_matter(
    world: World, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert status_of("chunk", input=world.corpus, output=out) == 0


def test_a_part_that_a_worker_may_not_read_is_told(
    world: World, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    passages = shutil.copytree(world.made("passages"), tmp_path / "passages")

    def refused(storage: Storage, path: str) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(reader, "file_sha256", refused)
    assert status_of("encode", passages=passages, encoder=world.passage_encoder, output=out) == 2
    assert f"{passages}/part-00000-00000.parquet: Permission denied; give a path" in sentence(capfd)
    assert not any(path.is_file() for path in out.rglob("*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
class TestPermission:
    @pytest.fixture
    def locked(self, tmp_path: Path, world: World) -> Iterator[Path]:
        """A folder that only tells that it is there, with a corpus in it."""
        folder = tmp_path / "locked"
        folder.mkdir()
        (folder / "corpus.jsonl").write_text(world.corpus.read_text())
        (folder / "corpus.jsonl").chmod(0)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)

    def test_of_an_input(self, locked: Path, out: Path, capfd: pytest.CaptureFixture) -> None:
        assert status_of("chunk", input=locked / "corpus.jsonl", output=out) == 2
        assert f"{locked}/corpus.jsonl: Permission denied" in sentence(capfd)
        assert not out.exists()

    def test_of_an_output(self, locked: Path, world: World, capfd: pytest.CaptureFixture) -> None:
        assert status_of("chunk", input=world.corpus, output=locked / "out") == 2
        assert f"--output {locked}/out: cannot be written (Permission denied)" in sentence(capfd)

    def test_of_a_model(self, tmp_path: Path, world: World, out: Path, capfd: pytest.CaptureFixture) -> None:
        model = tmp_path / "model"
        model.mkdir()
        (model / "config.json").write_text("{}")
        (model / "config.json").chmod(0)
        assert status_of("encode", passages=world.made("passages"), encoder=model, output=out) == 2
        assert f"{model}/config.json: cannot be read" in sentence(capfd)
