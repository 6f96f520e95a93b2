"""Storage on a real S3 server: what Beam's own client does not do, and what a failure leaves."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.filesystems import STORAGE, StoreFailed
from pipelines.runners import pipeline_options
from rag_core.errors import UsageError
from rag_core.remote_folders import local_folder
from tests.stores.server import BUCKET, Store

FOLDER = f"s3://{BUCKET}/out"
_PART = 9 << 20  # more than Beam sends at once


def put(path: str, content: bytes) -> None:
    with STORAGE.create(path) as file:
        file.write(content)


def content_of(path: str) -> bytes:
    with STORAGE.open(path) as file:
        return file.read()


@pytest.mark.parametrize("content", [b"", b"short", bytes(range(256)) * (_PART // 256)])
def test_what_is_put_is_there_whatever_its_length(store, content):
    put(f"{FOLDER}/sub/a", b"what was there before")
    put(f"{FOLDER}/sub/a", content)
    assert content_of(f"{FOLDER}/sub/a") == content
    assert STORAGE.size(f"{FOLDER}/sub/a") == len(content)
    assert STORAGE.exists(FOLDER)
    assert STORAGE.is_folder(f"{FOLDER}/sub")
    assert not STORAGE.is_folder(f"{FOLDER}/sub/a")
    assert store.unfinished_uploads() == []


def test_globs_lists_stamps_and_removals(store):
    for name in ["b.json", "a.json", "sub/c.json"]:
        put(f"{FOLDER}/{name}", b"1")
    everything = [f"{FOLDER}/{name}" for name in ["a.json", "b.json", "sub/c.json"]]
    assert STORAGE.glob(f"{FOLDER}/*.json") == everything[:2]
    assert STORAGE.list_files(FOLDER) == everything
    stamp = STORAGE.stamp(everything[0])
    put(everything[0], b"2")
    assert STORAGE.stamp(everything[0]) != stamp
    STORAGE.remove(f"{FOLDER}/sub")
    STORAGE.remove(f"{FOLDER}/none")
    assert STORAGE.list_files(FOLDER) == everything[:2]
    for operation in (STORAGE.open, STORAGE.size, STORAGE.stamp):
        with pytest.raises(FileNotFoundError):
            operation(f"{FOLDER}/none")


def test_a_bucket_is_a_folder_and_no_object(store):
    assert not STORAGE.exists(f"s3://{BUCKET}")
    put(f"s3://{BUCKET}/a", b"1")
    assert STORAGE.exists(f"s3://{BUCKET}")
    assert STORAGE.is_folder(f"s3://{BUCKET}/")
    with pytest.raises(FileNotFoundError):
        STORAGE.open(f"s3://{BUCKET}/")


@pytest.mark.parametrize(("error", "written"), [(ValueError, 0), (KeyboardInterrupt, 2 * _PART)])
def test_a_writer_that_fails_puts_nothing(store, error, written):
    put(f"{FOLDER}/before", b"whole")
    for name in ("before", "never"):
        with pytest.raises(error), STORAGE.create(f"{FOLDER}/{name}") as file:
            file.write(bytes(written))
            raise error
    assert STORAGE.list_files(FOLDER) == [f"{FOLDER}/before"]
    assert content_of(f"{FOLDER}/before") == b"whole"
    assert store.put == 1


def test_an_upload_that_fails_half_way_is_given_up_and_what_was_there_stays(store, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    put(f"{FOLDER}/a", b"whole")
    sent = []

    def fails(method: str, query: str) -> bool:
        if method == "PUT" and "partNumber" in query:
            sent.append(query)
        return method == "PUT" and "partNumber=2" in query

    store.fails = fails
    for name in ("a", "never"):
        with pytest.raises(StoreFailed, match=rf"{FOLDER}/{name}: the store did not answer as expected"):
            put(f"{FOLDER}/{name}", bytes(2 * _PART))
    assert any("partNumber=1&" in query for query in sent)  # half of it had arrived
    assert STORAGE.list_files(FOLDER) == [f"{FOLDER}/a"]
    assert content_of(f"{FOLDER}/a") == b"whole"
    assert store.unfinished_uploads() == []


def test_an_object_that_vanishes_while_it_is_read_is_one_sentence(store):
    put(f"{FOLDER}/a", b"whole")
    with STORAGE.open(f"{FOLDER}/a") as file:
        STORAGE.remove(f"{FOLDER}/a")
        with pytest.raises(UsageError, match=rf"{FOLDER}/a: the store refuses it"):
            file.read()


def test_a_process_killed_while_it_puts_leaves_what_was_there(store):
    put(f"{FOLDER}/a", b"whole")
    program = f"""
import sys
from pipelines import filesystems
class Endless:
    def read(self, count):
        if self.left == 0:
            print("half", flush=True)
            sys.stdin.read()
        self.left -= 1
        return bytes(count)
source = Endless()
source.left = 2
filesystems._put("{FOLDER}/a", source)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "half\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert store.unfinished_uploads() == ["out/a"]  # it was at it
    assert content_of(f"{FOLDER}/a") == b"whole"


def test_a_bucket_that_is_not_there_is_one_sentence(store):
    with pytest.raises(
        UsageError, match=r"s3://elsewhere/out/a: the store refuses it \(.*NoSuchBucket.*\); give a"
    ):
        put("s3://elsewhere/out/a", b"1")


def test_missing_credentials_are_one_sentence(store, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    for operation in (STORAGE.exists, STORAGE.list_files, STORAGE.open):
        with pytest.raises(UsageError, match=r"no credentials are found; set AWS_ACCESS_KEY_ID"):
            operation(f"{FOLDER}/a")


def test_the_options_of_a_command_hold_before_a_pipeline_is_made(store, monkeypatch):
    put(f"{FOLDER}/a", b"1")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    try:
        pipeline_options([f"--s3_endpoint_url={store.url}"])
        assert STORAGE.list_files(FOLDER) == [f"{FOLDER}/a"]
    finally:
        FileSystems.set_options(PipelineOptions([]))


def test_a_folder_is_copied_once_until_a_file_changes(store: Store, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "model" / "sub").mkdir(parents=True)
    for name in ("config.json", "sub/tokenizer.json"):
        (tmp_path / "model" / name).write_text(name)
    folder = store.upload(tmp_path / "model", "models/model")
    copy = Path(local_folder(STORAGE, folder))
    assert copy.name == "model"
    assert {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()} == {
        "config.json",
        "sub/tokenizer.json",
    }
    written = (copy / "config.json").stat().st_mtime_ns
    assert local_folder(STORAGE, f"{folder}/") == str(copy)
    assert (copy / "config.json").stat().st_mtime_ns == written
    put(f"{folder}/config.json", b"CONFIG.json")
    other = Path(local_folder(STORAGE, folder))
    assert (other / "config.json").read_text() == "CONFIG.json"
    assert not copy.exists()
    with pytest.raises(UsageError, match=r"models/none: no such folder"):
        local_folder(STORAGE, f"s3://{BUCKET}/models/none")
