"""Commands that submit jobs, and what is in a job."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.portability.common_urns import resource_hints

from schemas import TABLES
from tests.deploy.dataflow.conftest import BUCKET
from tests.pipelines.conftest import World

IMAGE = "europe-west4-docker.pkg.dev/a-project/rag-beam/gpu:1"
PROJECT = {
    "runner": "DataflowRunner",
    "project": "a-project",
    "region": "europe-west4",
    "temp_location": f"{BUCKET}/temp",
    "staging_location": f"{BUCKET}/staging",
    "sdk_container_image": IMAGE,
    "sdk_location": "container",
}
ANSWERS = "answers.parquet"
_HINTS = {
    resource_hints.ACCELERATOR.urn: "accelerator",
    resource_hints.MIN_RAM_BYTES.urn: "min_ram",
    resource_hints.MAX_ACTIVE_BUNDLES_PER_WORKER.urn: "max_active_bundles_per_worker",
}


def stage_options(world: World, stage: str) -> dict[str, Any]:
    """What a stage needs: data in Cloud Storage, models in a folder that launcher and workers have."""
    made = f"{BUCKET}/world/made"
    data = {"embeddings": f"{made}/embeddings", "passages": f"{made}/passages"}
    answering = {"retrievals": f"{made}/retrievals", "model": world.generator}
    options: dict[str, dict[str, Any]] = {
        "chunk": {"input": f"{BUCKET}/world/corpus.jsonl", "passage_words": 20},
        "encode": {"passages": data["passages"], "encoder": world.passage_encoder, "unit_rows": 30},
        "index": data | {"shard_rows": 50},
        "retrieve": {
            "index": f"{made}/index",
            "questions": f"{BUCKET}/world/questions.jsonl",
            "encoder": world.question_encoder,
            "n_docs": 4,
        },
        "generate": answering | {"model_type": "rag_token", "max_new_tokens": 3},
        "classify": answering
        | {"retrievals": f"{made}/claim_retrievals", "label_set": ["SUPPORTS=yes", "REFUTES=no"]},
        "evaluate": {
            "predictions": f"{made}/retrievals",
            "references": f"{BUCKET}/world/questions.jsonl",
        },
        "compare": {"before": f"{BUCKET}/world/{ANSWERS}", "after": f"{BUCKET}/world/{ANSWERS}"},
    }
    return options[stage]


def answers_file() -> bytes:
    """Answers made elsewhere: one question, which no passage answers."""
    row = {
        "question_id": "q0",
        "question": "Who?",
        "answer": "nobody",
        "log_prob": 0.0,
        "finish_reason": "end",
        "candidates": [],
        "passages": [],
        "answer_bound": 0.0,
    }
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row], schema=TABLES["answers"]), file)
    return file.getvalue()


def hints_by_step(pipeline: beam_runner_api_pb2.Pipeline) -> dict[str, dict[str, str]]:
    """The resource hints of each step that has some, by its name."""
    components = pipeline.components
    found = {}
    for transform in components.transforms.values():
        if not transform.subtransforms and transform.environment_id:
            hints = components.environments[transform.environment_id].resource_hints
            if hints:
                found[transform.unique_name] = {_HINTS[urn]: value.decode() for urn, value in hints.items()}
    return found


def images(pipeline: beam_runner_api_pb2.Pipeline) -> set[str]:
    """The containers of all steps."""
    return {
        beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image
        for environment in pipeline.components.environments.values()
    }
