"""A stand-in for the Dataflow service on this machine, behind `--dataflow_endpoint`.

It takes the jobs that the real submission code sends, and does their work where a test wants it: the
staged pipeline, as it was submitted, in Beam's in-process runner, with the container of the workers
replaced by this process.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.environments import EmbeddedPythonEnvironment

from tests.deploy.dataflow.cloud_storage import CloudStorage

Ending = Literal["JOB_STATE_DONE", "JOB_STATE_FAILED"]


class DataflowService:
    """Jobs as they were submitted, in order.

    Attributes:
      paths: of the requests that submitted them.
      works: whether a job's work is done.
      pending: whether a job is said to be under way at first, so that the launcher has to ask again.
    """

    def __init__(self, storage: CloudStorage, *, works: bool = True, pending: bool = False) -> None:
        self.storage = storage
        self.works = works
        self.pending = pending
        self.ending: Ending = "JOB_STATE_DONE"
        self.jobs: list[dict[str, Any]] = []
        self.paths: list[str] = []
        service = self

        class Handler(_Handler):
            asked = service

        self._server = ThreadingHTTPServer(("localhost", 0), Handler)
        self.address = f"http://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def submitted_pipeline(storage: CloudStorage, job: dict[str, Any]) -> beam_runner_api_pb2.Pipeline:
    """The graph that a job's workers are given."""
    url = job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
    return beam_runner_api_pb2.Pipeline.FromString(storage.objects[url])


def run_here(pipeline: beam_runner_api_pb2.Pipeline) -> None:
    """Does the work of a graph that was made for containers."""
    here = EmbeddedPythonEnvironment.default().to_runner_api(None)
    for environment in pipeline.components.environments.values():
        environment.CopyFrom(here)
    FnApiRunner().run_via_runner_api(pipeline, PipelineOptions())


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    asked: DataflowService
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        service = self.asked
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        service.jobs.append(job)
        service.paths.append(self.path.partition("?")[0])
        if service.works:
            run_here(submitted_pipeline(service.storage, job))
        self._answer(
            self._about(len(service.jobs), "JOB_STATE_PENDING" if service.pending else service.ending)
        )

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        if path.endswith(("/messages", "/metrics")):
            self._answer({})
        else:
            self._answer(self._about(int(path.rpartition("-")[2]), self.asked.ending))

    def _about(self, number: int, state: str) -> dict[str, Any]:
        job = self.asked.jobs[number - 1]
        return {"id": f"job-{number}", "name": job["name"], "currentState": state}

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
