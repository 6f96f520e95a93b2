"""A run with everything on an object store, killed in mid-stage: the rerun goes on, and nothing half is there."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

from pipelines.dataset.manifest import read_manifest
from pipelines.filesystems import STORAGE
from tests.pipelines.conftest import PASSAGE_WORDS, World
from tests.stores.server import BUCKET, Store

KILLS = 6


class Run:
    """`rag-beam run` in a process group of its own, killed as it is about to put its `kill_at`th object, if ever."""

    def __init__(self, store: Store, run_file: str, output: str, temporary: Path, kill_at: int | None = None):
        self.killed = False
        self._kill_at = kill_at
        self._process: Future[subprocess.Popen[str]] = Future()
        store.put, store.on_put = 0, self._about_to_put
        self._process.set_result(
            subprocess.Popen(
                [sys.executable, "-m", "pipelines.cli", "run", run_file, "--output", output],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        )

    def ended(self) -> tuple[int, str]:
        """The exit status and what it said."""
        process = self._process.result()
        said, _ = process.communicate()
        return process.returncode, said

    def _about_to_put(self, put: int) -> None:
        if put == self._kill_at:
            os.killpg(self._process.result().pid, signal.SIGKILL)
            self.killed = True


@pytest.fixture
def run_file(store: Store, world: World, tmp_path) -> str:
    """A run of the main job whose inputs and models lie on the store, with units enough to be killed between."""
    paths = (world.corpus, world.questions, world.passage_encoder, world.question_encoder, world.generator)
    for path in paths:
        store.upload(path, f"job/world/{path.name}")
    url = {
        path.name: f"world/{path.name}" for path in paths
    }  # relative to the run file, which lies there too
    search = {"encoder": url["question_encoder"], "questions": url["questions.jsonl"], "n_docs": 4}
    answers = {"model": url["generator"], "model_type": "rag_token", "max_new_tokens": 3, "unit_rows": 3}
    steps = {
        "passages": {"stage": "chunk", "input": [url["corpus.jsonl"]], "passage_words": PASSAGE_WORDS},
        "embeddings": {
            "stage": "encode",
            "passages": "passages",
            "encoder": url["passage_encoder"],
            "unit_rows": 20,
        },
        "index": {"stage": "index", "passages": "passages", "embeddings": "embeddings", "shard_rows": 30},
        "retrievals": {"stage": "retrieve", "index": "index", **search, "unit_rows": 3, "question_block": 3},
        "answers": {"stage": "generate", "retrievals": "retrievals", **answers},
        "scores": {"stage": "evaluate", "predictions": "answers", "references": url["questions.jsonl"]},
    }
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps({"output": "out", "options": {"num_threads": 1}, "steps": steps}))
    return store.upload(path, "job/run.yaml")


def contents(output: str) -> dict[str, list[tuple[str, str]]]:
    """Names and contents of every step's parts, as the manifests list them and as they are."""
    found = {}
    for step in ("passages", "embeddings", "index", "retrievals", "answers", "scores"):
        manifest = read_manifest(STORAGE, f"{output}/{step}")
        assert manifest is not None, step
        found[step] = [(part.name, part.sha256) for part in manifest.parts]
        on_store = {path.rsplit("/", 1)[-1] for path in STORAGE.list_files(f"{output}/{step}")}
        assert on_store == {"manifest.json", *(part.name for part in manifest.parts)}
    return found


@pytest.mark.slow
def test_a_run_killed_again_and_again_gives_the_tables_of_an_undisturbed_one(store, run_file, tmp_path):
    """Each rerun is killed a share of the undisturbed run's objects later."""
    status, said = Run(store, run_file, f"s3://{BUCKET}/undisturbed", tmp_path).ended()
    assert status == 0, said
    step = store.put // (KILLS + 1)
    output = f"s3://{BUCKET}/disturbed"
    for kills in range(KILLS + 1):
        run = Run(store, run_file, output, tmp_path, kill_at=step if kills < KILLS else None)
        status, said = run.ended()
        if not run.killed:
            break
        assert status == -signal.SIGKILL, said
    assert status == 0, said
    assert kills == KILLS
    assert contents(output) == contents(f"s3://{BUCKET}/undisturbed")
    verified = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "verify", output], capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
