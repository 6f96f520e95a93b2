"""A server that speaks S3, in this process: moto's, which can be watched and can fail."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import boto3
import pytest
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

BUCKET = "bucket"


class Store:
    """The server, and what a test asks of it directly.

    Attributes:
      url: for `AWS_ENDPOINT_URL`.
      put: how many objects were put.
      on_put: called before an object is put, with how many were put before.
      fails: which requests (method, query) are answered with an error of the server's own.
    """

    def __init__(self) -> None:
        self.put = 0
        self.on_put: Callable[[int], None] | None = None
        self.fails: Callable[[str, str], bool] = _none
        self._application = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Silent)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._counting = threading.Lock()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def client(self) -> Any:
        """A client of boto3's."""
        return boto3.client("s3")

    def stop(self) -> None:
        """Ends the server; its objects go with it."""
        self._server.shutdown()

    def names(self) -> list[str]:
        """The names of all objects."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def unfinished_uploads(self) -> list[str]:
        """The names of uploads that were begun and neither completed nor given up."""
        return [item["Key"] for item in self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])]

    def empty(self) -> None:
        """Removes all objects and uploads."""
        for key in self.names():
            self.client.delete_object(Bucket=BUCKET, Key=key)
        for item in self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
            self.client.abort_multipart_upload(Bucket=BUCKET, Key=item["Key"], UploadId=item["UploadId"])
        self.put, self.on_put, self.fails = 0, None, _none

    def upload(self, local: os.PathLike[str] | str, key: str) -> str:
        """Puts a file, or the files of a folder; returns its URL."""
        for folder, _, names in os.walk(local):
            for name in names:
                path = os.path.join(folder, name)
                self.client.upload_file(path, BUCKET, f"{key}/{os.path.relpath(path, local)}")
        if os.path.isfile(local):
            self.client.upload_file(local, BUCKET, key)
        return f"s3://{BUCKET}/{key}"

    def _answer(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        method, query = environ["REQUEST_METHOD"], environ["QUERY_STRING"]
        if self.fails(method, query):
            start_response("503 Slow Down", [("Content-Length", "0")])
            return [b""]
        if (method == "POST" and "uploadId" in query) or (method == "PUT" and not query):
            with self._counting:
                before, self.put = self.put, self.put + 1
            if self.on_put is not None:
                self.on_put(before)
        return self._application(environ, start_response)


def _none(method: str, query: str) -> bool:
    return False


class _Silent(MotoRequestHandler):
    def log_request(self, *_: Any) -> None:
        """Says nothing."""


def running_store() -> Iterator[Store]:
    """A server with an empty bucket, to which this process and those that it starts turn."""
    store = Store()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", store.url)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "of-the-test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        store.client.create_bucket(Bucket=BUCKET)
        yield store
        store.stop()
