"""Beam's job server is brought whole or not at all; a server on this machine stands for Maven Central."""

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.utils.subprocess_server import JavaJarServer

from deploy.flink import fetch
from rag_core.errors import RagBeamError, UsageError

JAR = fetch.job_server_jar(Path()).name


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the job server on a Maven repository, with a jar and its SHA-1."""
    root = tmp_path / "maven"

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object):
            super().__init__(*arguments, directory=str(root))  # type: ignore[arg-type]

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), Handler) as server:
        url = f"http://localhost:{server.server_port}"
        monkeypatch.setattr(JavaJarServer, "MAVEN_CENTRAL_REPOSITORY", url)
        monkeypatch.setattr(JavaJarServer, "GOOGLE_MAVEN_MIRROR", url)
        folder = root / Path(fetch._job_server_url().removeprefix(f"{url}/")).parent
        folder.mkdir(parents=True)
        write_jar(folder / JAR)
        (folder / f"{JAR}.sha1").write_text(hashlib.sha1((folder / JAR).read_bytes()).hexdigest() + "\n")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder
        server.shutdown()
        thread.join()


def write_jar(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")


def test_it_is_brought_once(maven: Path, tmp_path: Path) -> None:
    brought = fetch.fetch_job_server(tmp_path / "flink")
    assert brought.read_bytes() == (maven / JAR).read_bytes()
    (maven / JAR).unlink()
    assert fetch.fetch_job_server(tmp_path / "flink") == brought
    assert (tmp_path / "flink" / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize(("damaged", "message"), [(JAR, "has the SHA-1"), (f"{JAR}.sha1", "expected 0")])
def test_another_checksum_is_refused_and_nothing_is_left(
    maven: Path, tmp_path: Path, damaged: str, message: str
) -> None:
    (maven / damaged).write_text("0")
    with pytest.raises(RagBeamError, match=message):
        fetch.fetch_job_server(tmp_path / "flink")
    assert [path.name for path in (tmp_path / "flink").iterdir()] == [".gitignore"]


def test_a_jar_that_is_not_served_is_told_with_what_to_do(maven: Path, tmp_path: Path) -> None:
    (maven / JAR).unlink()
    (maven / f"{JAR}.sha1").unlink()
    with pytest.raises(RagBeamError, match=r"could not be brought .*404.*give --job_server JAR"):
        fetch.fetch_job_server(tmp_path / "flink")


def test_a_jar_that_was_brought_otherwise_is_taken(tmp_path: Path) -> None:
    write_jar(tmp_path / "mirrored.jar")
    (tmp_path / "page.html").write_text("<html>")
    with pytest.raises(UsageError, match=r"page.html: is not a jar; give beam-runners-flink"):
        fetch.fetch_job_server(tmp_path / "flink", tmp_path / "page.html")
    taken = fetch.fetch_job_server(tmp_path / "flink", tmp_path / "mirrored.jar")
    assert taken.name == JAR
    assert taken.read_bytes() == (tmp_path / "mirrored.jar").read_bytes()
