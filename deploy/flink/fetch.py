"""Brings Flink and Beam's job server for it into a folder: `python -m deploy.flink.fetch`.

Flink comes from PyPI, by pip and with its hashes: its jars from a source archive, its scripts from a wheel,
of which nothing is installed. Beam's job server is a jar on Maven Central, brought as Beam itself brings
it and checked against the SHA-1 that stands beside it there.
"""

import argparse
import hashlib
import logging
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path

from apache_beam.utils.subprocess_server import JavaJarServer
from apache_beam.version import __version__ as beam_version

from pipelines.exit_status import exit_status
from pipelines.options import CommandParser
from rag_core.errors import RagBeamError, UsageError

FOLDER = Path(".flink")  # ignored by git: it has a .gitignore of its own
FLINK_VERSION = "1.20"  # as Beam's --flink_version names it
_RELEASE = "1.20.5"
_JARS = (
    f"apache-flink-libraries=={_RELEASE} "
    "--hash=sha256:e6aee62ea1a1fe7b32e28894ad079f3f1a50a372a4caac3df52405267f4228c8"
)
_SCRIPTS = (
    f"apache-flink=={_RELEASE} --hash=sha256:6e8ec098a7c06ea34d01fd540e81d44703a90e3bda74052dcbcbb7db5253c10f"
)
# the scripts are the same in every wheel: this one is taken whatever Python and machine are here
_ONE_WHEEL = ("--only-binary=:all:", "--python-version=3.11", "--platform=manylinux1_x86_64")
_BLOCK_BYTES = 1 << 20


def flink_home(folder: Path) -> Path:
    """Where Flink lies, once it is whole."""
    return folder / f"flink-{_RELEASE}"


def job_server_jar(folder: Path) -> Path:
    """Where Beam's job server lies, once it is whole."""
    return folder / Path(_job_server_url()).name


def _job_server_url() -> str:
    return JavaJarServer.path_to_beam_jar(f":runners:flink:{FLINK_VERSION}:job-server:shadowJar")


def fetch_flink(folder: Path) -> Path:
    """Brings Flink, where it is not there; returns its folder.

    Raises:
      RagBeamError: pip could not bring it, or a hash is another one.
    """
    home = flink_home(folder)
    if home.exists():
        return home
    _make(folder)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        archive = _downloaded(_JARS, Path(work, "jars"))
        wheel = _downloaded(_SCRIPTS, Path(work, "scripts"), *_ONE_WHEEL)
        unpacked = Path(work, "flink")
        _unpack_jars(archive, unpacked)
        _unpack_scripts(wheel, unpacked)
        unpacked.rename(home)
    return home


def _downloaded(requirement: str, folder: Path, *options: str) -> Path:
    folder.mkdir()
    requirements = folder.with_suffix(".txt")
    requirements.write_text(requirement)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", *options]
    ended = subprocess.run(
        [*pip, f"--dest={folder}", f"--requirement={requirements}"], capture_output=True, text=True
    )
    if ended.returncode:
        raise RagBeamError(
            f"{requirement.split()[0]}: pip could not bring it: {_last_line(ended.stderr)}; see that PyPI is reached"
        )
    [downloaded] = folder.iterdir()
    return downloaded


def _unpack_jars(archive: Path, home: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            kind, _, name = member.name.partition("/deps/")[2].partition("/")
            if kind in ("bin", "lib") and name and member.isfile():
                member.name = f"{kind}/{name}"
                tar.extract(member, home, filter="data")


def _unpack_scripts(wheel: Path, home: Path) -> None:
    with zipfile.ZipFile(wheel) as zipped:
        for name in zipped.namelist():
            kind, _, script = name.removeprefix("pyflink/").partition("/")
            if name.startswith("pyflink/") and kind in ("bin", "conf") and script:
                target = home / kind / script
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(zipped.read(name))
                if kind == "bin":
                    target.chmod(0o755)


def fetch_job_server(folder: Path, jar: Path | None = None) -> Path:
    """Brings Beam's job server for Flink, where it is not there; returns the jar.

    Args:
      jar: one that was brought otherwise, from a company's mirror, say.

    Raises:
      RagBeamError: Maven Central could not be reached, does not serve it, or its checksum is another one.
      UsageError: there is no such jar.
    """
    target, url = job_server_jar(folder), _job_server_url()
    if target.exists():
        return target
    _make(folder)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        if jar is not None:
            if not zipfile.is_zipfile(jar):
                raise UsageError(f"--job_server {jar}: is not a jar; give {target.name}")
            brought = Path(shutil.copy(jar, work))
        else:
            brought = _from_maven(url, Path(work))
        brought.rename(target)
    return target


def _from_maven(url: str, work: Path) -> Path:
    logging.getLogger("apache_beam").setLevel(logging.ERROR)  # a warning that it downloads: it was asked to
    try:
        with urllib.request.urlopen(f"{url}.sha1") as response:
            expected = response.read().decode().split()[0]
        brought = Path(JavaJarServer.local_jar(url, str(work)))
    except (urllib.error.URLError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise RagBeamError(
            f"{url}: could not be brought ({reason}); where Maven Central is not reached, give --job_server JAR"
        ) from error
    found = _sha1(brought)
    if found != expected:
        raise RagBeamError(f"{url}: has the SHA-1 {found}, expected {expected}; fetch it again")
    return brought


def _sha1(path: Path) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it did not say why"])[-1]


def main(argv: Sequence[str] | None = None) -> int:
    """Brings both; returns the exit status."""
    parser = CommandParser(
        prog="python -m deploy.flink.fetch",
        description=f"Brings Flink {_RELEASE} and the job server of Beam {beam_version}. What is there is kept.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to put them")
    parser.add_argument("--job_server", type=Path, help="a job server's jar that was brought otherwise")
    with exit_status() as status:
        arguments = parser.parse_args(argv)
        print(f"flink: {fetch_flink(arguments.folder)}", flush=True)
        print(f"job server: {fetch_job_server(arguments.folder, arguments.job_server)}", flush=True)
    return status.code


if __name__ == "__main__":
    raise SystemExit(main())
