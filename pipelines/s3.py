"""What Beam's S3 client lacks: one connection pool a process, empty objects, uploads that are given up.

Beam 2.77 makes a client of boto3 for every operation, which costs a tenth of a second of computing each;
fails to put an object without bytes; and makes an object of whatever had arrived when a writer is closed.
"""

import contextlib
import logging
import os
import threading
from typing import Any

from apache_beam.io.aws.clients.s3 import boto3_client, messages
from apache_beam.options.pipeline_options import PipelineOptions, S3Options

from rag_core.errors import UsageError

_BeamClient = boto3_client.Client


class _Thread(threading.local):
    def __init__(self) -> None:
        self.begun: dict[str, tuple[Any, dict[str, str]]] = {}  # uploads by their id


_thread = _Thread()
_connected: dict[Any, _BeamClient] = {}
_connecting = threading.Lock()


def give_up_uploads() -> None:
    """Ends what this thread has begun to upload and not completed: what was there under that name stays."""
    while _thread.begun:
        upload_id, (client, place) = _thread.begun.popitem()
        with contextlib.suppress(Exception):  # the store deletes it in the end, if it is told to
            client.abort_multipart_upload(**place, UploadId=upload_id)


class S3Client(_BeamClient):
    """Beam's client over the connections of this process; what it remembers of a download is its own."""

    def __init__(self, options: Any) -> None:
        # not super().__init__: that is what takes long
        vars(self).update(vars(_connection(options)))

    def create_multipart_upload(self, request: Any) -> Any:
        """Begins an upload."""
        response = super().create_multipart_upload(request)
        place = {"Bucket": request.bucket, "Key": request.object}
        _thread.begun[response.upload_id] = self.client, place
        return response

    def complete_multipart_upload(self, request: Any) -> None:
        """Makes an object of the parts, also of none."""
        if request.parts:
            super().complete_multipart_upload(request)
            _thread.begun.pop(request.upload_id, None)
            return
        give_up_uploads()
        try:
            self.client.put_object(Bucket=request.bucket, Key=request.object, Body=b"")
        except Exception as error:
            raise messages.S3ClientError(str(error), boto3_client.get_http_error_code(error)) from error


def _connection(options: Any) -> _BeamClient:
    """Beam's client for these options and what the environment says, made once.

    Raises:
      UsageError: nothing says with which credentials.
    """
    given = (
        options.view_as(S3Options).get_all_options(current_only=True)
        if isinstance(options, PipelineOptions)
        else dict(options)
    )
    said = sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))
    key = (os.getpid(), repr(sorted(given.items())), repr(said))
    with _connecting:
        if key not in _connected:
            # Beam would ask again and again for eight minutes
            if (
                not given.get("s3_access_key_id")
                and boto3_client.boto3.session.Session().get_credentials() is None
            ):
                raise UsageError(
                    "s3://: no credentials are found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give "
                    "--s3_access_key_id and --s3_secret_access_key, or a profile in AWS_PROFILE"
                )
            _connected[key] = _BeamClient(options)
        return _connected[key]


def use_with_beam() -> None:
    """Lets Beam's S3 file system use this client, where boto3 is installed."""
    if boto3_client.boto3 is not None and boto3_client.Client is _BeamClient:
        boto3_client.Client = S3Client
        # it logs each error with a traceback before it raises it; what fails is told once, by us
        logging.getLogger().addFilter(lambda record: record.module != "s3io")
