"""A worker process of a pool: asks the runner for the pipeline's options, and serves it.

It takes arguments of a Beam container's boot program, and the worker's id in the variable WORKER_ID besides.
Nothing that a pipeline stages is fetched: the host has this package installed.
"""

import argparse
import logging
import os

import grpc
from apache_beam.portability.api import beam_provision_api_pb2 as provision_api
from apache_beam.portability.api import beam_provision_api_pb2_grpc as provision_services
from apache_beam.portability.api import endpoints_pb2
from google.protobuf import json_format, text_format

from pipelines.worker import serve

_SECONDS_TO_ANSWER = 60


def main() -> None:
    """Serves the runner until it hangs up."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("id", "control_endpoint", "logging_endpoint", "provision_endpoint"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,  # what is imported may have set up another
    )
    os.environ |= _environment(arguments)
    serve()


def _environment(arguments: argparse.Namespace) -> dict[str, str]:
    """What Beam's worker reads of its environment."""
    with grpc.insecure_channel(arguments.provision_endpoint) as channel:
        reply = provision_services.ProvisionServiceStub(channel).GetProvisionInfo(
            provision_api.GetProvisionInfoRequest(),
            metadata=[("worker_id", arguments.id)],
            wait_for_ready=True,
            timeout=_SECONDS_TO_ANSWER,  # a runner that has gone must not leave workers behind
        )
    info = reply.info
    environment = {
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
        "CONTROL_API_SERVICE_DESCRIPTOR": _descriptor(info.control_endpoint, arguments.control_endpoint),
        "LOGGING_API_SERVICE_DESCRIPTOR": _descriptor(info.logging_endpoint, arguments.logging_endpoint),
    }
    if info.status_endpoint.url:
        environment["STATUS_API_SERVICE_DESCRIPTOR"] = _descriptor(info.status_endpoint, "")
    return environment


def _descriptor(told: endpoints_pb2.ApiServiceDescriptor, otherwise: str) -> str:
    """An address as the worker reads it: what the runner told goes before what the pool was asked with."""
    return text_format.MessageToString(
        told if told.url else endpoints_pb2.ApiServiceDescriptor(url=otherwise)
    )


if __name__ == "__main__":
    main()
