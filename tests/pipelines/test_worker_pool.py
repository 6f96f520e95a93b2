"""A worker pool serves a runner that reaches it by the network: here Beam's own job service in Python."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2 as fn_api
from apache_beam.portability.api import beam_fn_api_pb2_grpc as fn_services
from apache_beam.portability.api import beam_provision_api_pb2 as provision_api
from apache_beam.portability.api import beam_provision_api_pb2_grpc as provision_services
from apache_beam.portability.api import endpoints_pb2
from apache_beam.runners.portability.local_job_service import LocalJobServicer

from deploy.flink.worker_logs import log_files, read_log, table_of_work
from pipelines import worker_pool
from tests.pipelines.commands import manifest_of, rag_beam, status_of
from tests.pipelines.conftest import PASSAGE_WORDS, World, write_lines


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
    pool.process.send_signal(signal.SIGTERM)
    assert pool.process.wait() == 0
    [log] = [read_log(path) for path in log_files([pool.logs])]
    assert log.bundles["passages"] > 0, log.path.read_text()
    assert log.units["passages"] == 1


class Runner(
    fn_services.BeamFnControlServicer,
    fn_services.BeamFnLoggingServicer,
    provision_services.ProvisionServiceServicer,
):
    """Notes by which name a worker calls, and hangs up on it once it has been heard by all services."""

    def __init__(self) -> None:
        self.callers: dict[str, str | None] = {}
        self._logs = threading.Event()

    def _note(self, service: str, context: grpc.ServicerContext) -> None:
        self.callers[service] = dict(context.invocation_metadata()).get("worker_id")

    def GetProvisionInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note("provision", context)
        return provision_api.GetProvisionInfoResponse(info=provision_api.ProvisionInfo())

    def Control(self, requests: Any, context: grpc.ServicerContext) -> Any:
        self._note("control", context)
        self._logs.wait()
        return iter(())

    def Logging(self, requests: Any, context: grpc.ServicerContext) -> Any:
        self._note("logging", context)
        self._logs.set()
        yield from ()


def test_a_worker_calls_every_service_by_its_name(tmp_path: Path) -> None:
    """Beam's runners in Java and Go refuse calls without it."""
    runner, server = Runner(), grpc.server(ThreadPoolExecutor())
    fn_services.add_BeamFnControlServicer_to_server(runner, server)
    fn_services.add_BeamFnLoggingServicer_to_server(runner, server)
    provision_services.add_ProvisionServiceServicer_to_server(runner, server)
    descriptor = endpoints_pb2.ApiServiceDescriptor(
        url=f"localhost:{server.add_insecure_port('localhost:0')}"
    )
    services = ("control_endpoint", "logging_endpoint", "provision_endpoint")
    request = fn_api.StartWorkerRequest(worker_id="3-1", **dict.fromkeys(services, descriptor))
    server.start()
    workers = worker_pool.WorkerPool(tmp_path)
    try:
        assert not workers.StartWorker(request, None).error
        [worker] = workers.workers()
        assert worker.wait() == 0
    finally:
        workers.end()
        server.stop(None)
    assert runner.callers == {"provision": "3-1", "control": "3-1", "logging": "3-1"}


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


def test_a_job_server_that_does_not_answer_is_told_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_lines(tmp_path / "corpus.jsonl", [{"title": "Aranth", "text": "Aranth lies on a river."}])
    endpoint = f"localhost:{free_port()}"
    options = {"runner": "PortableRunner", "job_endpoint": endpoint, "job_server_timeout": 1}
    assert status_of("chunk", input=tmp_path / "corpus.jsonl", output=tmp_path / "out", **options) == 1
    error = capsys.readouterr().err
    assert f"PortableRunner could not have the job done (no job server answers at {endpoint})" in error
    assert "Traceback" not in error
