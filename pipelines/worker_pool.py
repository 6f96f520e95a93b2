"""Serves a runner of a cluster with worker processes of this host: `python -m pipelines.worker_pool`.

Beam's own pool takes a container's boot program and never reads what its workers print. This one starts
workers of the installed package (`pipelines.pool_worker`), each with a log file of its own, and listens on one
address only, so that several pools can share a host.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2 as fn_api
from apache_beam.portability.api import beam_fn_api_pb2_grpc as fn_services

from pipelines.exit_status import exit_status
from pipelines.options import CommandParser
from rag_core.errors import UsageError

_SECONDS_TO_END = 10
_CALLS_AT_ONCE = 8


class WorkerPool(fn_services.BeamFnExternalWorkerPoolServicer):
    """Starts and stops worker processes as a runner asks."""

    def __init__(self, logs: Path):
        self._logs = logs
        self._lock = threading.Lock()
        self._workers: dict[str, subprocess.Popen] = {}
        self._started = 0

    def StartWorker(self, request: fn_api.StartWorkerRequest, context: Any) -> fn_api.StartWorkerResponse:
        """Starts a process that serves the runner at the request's addresses."""
        arguments = [
            f"--id={request.worker_id}",
            f"--control_endpoint={request.control_endpoint.url}",
            f"--logging_endpoint={request.logging_endpoint.url}",
            f"--provision_endpoint={request.provision_endpoint.url}",
        ]
        with self._lock:
            # not every runner says that it has no more use for one
            self._workers = {name: worker for name, worker in self._workers.items() if worker.poll() is None}
            self._started += 1
            # a name of its own: each job numbers its workers anew
            path = self._logs / f"worker-{os.getpid()}-{self._started:04d}.log"
            try:
                with path.open("wb") as log:
                    self._workers[request.worker_id] = subprocess.Popen(
                        [sys.executable, "-m", "pipelines.pool_worker", *arguments],
                        # Beam reads it as its modules are imported, and names the worker by it in every call
                        env={**os.environ, "WORKER_ID": request.worker_id},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
            except OSError as error:
                return fn_api.StartWorkerResponse(error=f"no worker could be started: {error}")
        print(f"worker {request.worker_id}: {path}", flush=True)
        return fn_api.StartWorkerResponse()

    def StopWorker(self, request: fn_api.StopWorkerRequest, context: Any) -> fn_api.StopWorkerResponse:
        """Ends the worker, where it has not ended by itself."""
        with self._lock:
            worker = self._workers.pop(request.worker_id, None)
        if worker is not None:
            _end([worker])
        return fn_api.StopWorkerResponse()

    def workers(self) -> list[subprocess.Popen]:
        """Those that were started, and that no runner has stopped."""
        with self._lock:
            return list(self._workers.values())

    def end(self) -> None:
        """Ends all workers."""
        with self._lock:
            workers = list(self._workers.values())
            self._workers.clear()
        _end(workers)


def _end(workers: Sequence[subprocess.Popen]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(_SECONDS_TO_END)
        worker.kill()
        worker.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status."""
    parser = CommandParser(
        prog="python -m pipelines.worker_pool",
        description="Serves a runner of a cluster with worker processes of this host "
        "(--environment_type=EXTERNAL --environment_config=ADDRESS).",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--address", default="localhost:50000", help="host:port to listen on (default %(default)s)"
    )
    parser.add_argument("--logs", type=Path, required=True, help="folder for a log file of each worker")
    with exit_status() as status:
        arguments = parser.parse_args(argv)
        _serve(arguments.address, arguments.logs)
    return status.code


def _serve(address: str, logs: Path) -> None:
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--logs {logs}: cannot be made ({error.strerror}); give a folder to write"
        ) from error
    pool = WorkerPool(logs)
    # two pools that shared a port would each get some of the requests
    server = grpc.server(ThreadPoolExecutor(_CALLS_AT_ONCE), options=[("grpc.so_reuseport", 0)])
    fn_services.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise UsageError(
            f"--address {address}: cannot be listened on; give a free port of this host"
        ) from error
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server.start()
    print(f"worker pool at {address}, logs in {logs}", flush=True)
    ended.wait()
    server.stop(grace=None)
    pool.end()


if __name__ == "__main__":
    raise SystemExit(main())
