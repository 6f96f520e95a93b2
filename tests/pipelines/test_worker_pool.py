"""A worker pool serves a runner that reaches it by the network: here Beam's own job service in Python."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from apache_beam.runners.portability.local_job_service import LocalJobServicer

from deploy.flink.worker_logs import log_files, read_log, table_of_work
from pipelines import worker_pool
from tests.pipelines.commands import manifest_of, rag_beam
from tests.pipelines.conftest import PASSAGE_WORDS, World


@dataclass(frozen=True)
class Pool:
    """A pool that listens, and Beam's options that have a job done by it."""

    process: subprocess.Popen
    logs: Path
    beam_options: dict[str, str]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        return taken.getsockname()[1]


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    address, logs = f"localhost:{free_port()}", tmp_path / "logs"
    command = [sys.executable, "-m", "pipelines.worker_pool", f"--address={address}", f"--logs={logs}"]
    jobs = LocalJobServicer(str(tmp_path / "staged"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"worker pool at {address}, logs in {logs}\n"
            options = {
                "runner": "PortableRunner",
                "job_endpoint": f"localhost:{jobs.start_grpc_server()}",
                "environment_type": "EXTERNAL",
                "environment_config": address,
            }
            yield Pool(process, logs, options)
        finally:
            process.kill()
            jobs.stop()


def test_a_stage_is_done_by_a_process_of_the_pool(world: World, tmp_path: Path, pool: Pool) -> None:
    rag_beam(
        "chunk",
        input=world.corpus,
        passage_words=PASSAGE_WORDS,
        output=tmp_path / "passages",
        **pool.beam_options,
    )
    made, expected = manifest_of(tmp_path / "passages"), manifest_of(world.made("passages"))
    assert (made.parts, made.counts) == (expected.parts, expected.counts)
    [log] = [read_log(path) for path in log_files([pool.logs])]
    assert log.bundles["passages"] > 0
    assert log.units["passages"] == 1
    pool.process.send_signal(signal.SIGTERM)
    assert pool.process.wait() == 0


@pytest.mark.slow
def test_a_process_loads_a_model_once(world: World, tmp_path: Path, pool: Pool) -> None:
    rag_beam(
        "encode",
        passages=world.made("passages"),
        encoder=world.passage_encoder,
        unit_rows=30,
        num_threads=1,
        output=tmp_path / "embeddings",
        **pool.beam_options,
    )
    made, expected = manifest_of(tmp_path / "embeddings"), manifest_of(world.made("embeddings"))
    assert (made.parts, made.counts) == (expected.parts, expected.counts)
    [log] = [read_log(path) for path in log_files([pool.logs])]
    assert log.units["embeddings"] > 2
    assert log.loads == {"EncodePassages": 1}
    assert "1 worker processes loaded 1 models and indexes, each at most 1 times" in table_of_work([log])


def test_an_address_in_use_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert worker_pool.main([f"--address={address}", f"--logs={tmp_path}"]) == 2
    assert f"--address {address}: cannot be listened on" in capsys.readouterr().err


def test_logs_that_cannot_be_kept_are_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "logs").touch()
    assert worker_pool.main([f"--logs={tmp_path / 'logs'}"]) == 2
    assert f"--logs {tmp_path / 'logs'}: cannot be made" in capsys.readouterr().err
