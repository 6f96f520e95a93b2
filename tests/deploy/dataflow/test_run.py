"""The whole job on Dataflow's stand-in: stages one after another, and by templates a step a launch."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

pytest.importorskip("google.cloud.dataflow_v1beta3", reason="needs pip install -e '.[gcp]'")

from tests.deploy.dataflow.cloud_storage import CloudStorage
from tests.deploy.dataflow.conftest import BUCKET
from tests.deploy.dataflow.jobs import IMAGE, PROJECT
from tests.deploy.dataflow.service import run_here, submitted_pipeline
from tests.pipelines.commands import read_table, status_of
from tests.pipelines.conftest import World

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
OUT = f"{BUCKET}/run"


def run_file(world: World, data: str, path: Path) -> str:
    """All stages, on data in a folder; written to `path`."""
    asking = {"stage": "retrieve", "index": "index", "encoder": str(world.question_encoder), "n_docs": 4}
    answering = {"model": str(world.generator)}
    steps = {
        "passages": {"stage": "chunk", "input": [f"{data}/corpus.jsonl"], "passage_words": 20},
        "embeddings": {"stage": "encode", "passages": "passages", "encoder": str(world.passage_encoder)},
        "index": {"stage": "index", "embeddings": "embeddings", "passages": "passages", "shard_rows": 50},
        "retrievals": asking | {"questions": f"{data}/questions.jsonl"},
        "claims": asking | {"questions": f"{data}/claims.jsonl"},
        "answers": answering
        | {"stage": "generate", "retrievals": "retrievals", "model_type": "rag_token", "max_new_tokens": 3},
        "labels": answering
        | {"stage": "classify", "retrievals": "claims", "label_set": ["SUPPORTS=yes", "REFUTES=no"]},
        "scores": {"stage": "evaluate", "predictions": "answers", "references": f"{data}/questions.jsonl"},
    }
    path.write_text(
        yaml.safe_dump({"output": "out", "options": {"num_threads": 1}, "steps": steps}, sort_keys=False)
    )
    return str(path)


def stored_table(storage: CloudStorage, folder: str) -> pa.Table:
    """The rows of a finished data set in Cloud Storage, in its order."""
    files = storage.below(folder)
    parts = [part["name"] for part in json.loads(files["manifest.json"])["parts"]]
    return pa.concat_tables(pq.read_table(io.BytesIO(files[part])) for part in parts)


def test_stages_run_one_after_another_and_give_the_local_tables(
    storage, service, stored_world, tmp_path, capsys
):
    here = run_file(stored_world, str(stored_world.folder), tmp_path / "here.yaml")
    assert status_of("run", here, output=tmp_path / "out") == 0
    there = run_file(stored_world, f"{BUCKET}/world", tmp_path / "there.yaml")
    options = PROJECT | {"dataflow_endpoint": service.address, "output": OUT}
    service.pending = True  # the launcher asks again until a job is done
    assert status_of("run", there, **options) == 0
    steps = list(yaml.safe_load(Path(there).read_text())["steps"])
    assert len(service.jobs) == len(steps)
    for step in steps:
        if step != "index":
            assert stored_table(storage, f"{OUT}/{step}").equals(read_table(tmp_path / "out" / step)), step

    capsys.readouterr()
    assert status_of("run", there, **options) == 0
    assert capsys.readouterr().out.count("nothing to do") == len(steps)
    assert len(service.jobs) == len(steps)


def launch(folder: Path, run: str, number: int) -> str:
    """Starts the template's program as the service does, in a process of its own; what it prints."""
    parameters = {
        "run_file": run,
        "output": OUT,
        "only": "passages embeddings",
        "template_location": f"{BUCKET}/jobs/{number}.json",
        **{name: value for name, value in PROJECT.items() if not name.startswith("sdk_")},
    }
    done = subprocess.run(
        [sys.executable, ROOT / "deploy/dataflow/launch.py", *(f"--{k}={v}" for k, v in parameters.items())],
        cwd=folder,
        env=os.environ | {"RAG_BEAM_COMMAND": "run", "RAG_BEAM_IMAGE": IMAGE},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_launch_of_the_runs_template_submits_the_next_step(storage, stored_world, tmp_path):
    run = run_file(stored_world, f"{BUCKET}/world", tmp_path / "there.yaml")
    for number, step in enumerate(["passages", "embeddings"]):
        said = launch(tmp_path, run, number)
        assert f"{OUT}/{step}: handed over; the job is not waited for" in said
        assert said.endswith("the steps after it read its output: run this again when the job has ended\n")
        run_here(submitted_pipeline(storage, json.loads(storage.objects[f"{BUCKET}/jobs/{number}.json"])))
        assert f"{OUT}/{step}/manifest.json" in storage.objects
    assert launch(tmp_path, run, 2).count("nothing to do") == 2
    assert f"{BUCKET}/jobs/2.json" not in storage.objects
