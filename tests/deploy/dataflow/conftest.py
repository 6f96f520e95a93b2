"""Stand-ins for Cloud Storage and for Dataflow, and a small world that lies in the one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.pipelines.conftest import World, _collect_little, world  # noqa: F401 (fixtures)

if TYPE_CHECKING:  # late: without the extra gcp the tests here are skipped, each with its reason
    from tests.deploy.dataflow.cloud_storage import CloudStorage
    from tests.deploy.dataflow.service import DataflowService

BUCKET = "gs://a-bucket"


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["CloudStorage"]:
    """An empty Cloud Storage; the client's credentials are a token that is valid for long."""
    from tests.deploy.dataflow.cloud_storage import CloudStorage

    token = {"token": "a-token", "expiry": "2999-01-01T00:00:00Z"}
    keys = {"type": "authorized_user", "client_id": "an-id", "client_secret": "", "refresh_token": ""}
    credentials = tmp_path / "credentials.json"
    credentials.write_text(json.dumps(keys | token))
    stored = CloudStorage()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", stored.address)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "a-project")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    yield stored
    stored.close()


@pytest.fixture
def service(storage: "CloudStorage") -> Iterator["DataflowService"]:
    """A Dataflow that does the work of a job as it is submitted."""
    from tests.deploy.dataflow.service import DataflowService

    running = DataflowService(storage)
    yield running
    running.close()


@pytest.fixture
def stored_world(storage: "CloudStorage", world: World) -> World:  # noqa: F811 (the fixture)
    """The world, whose corpus, questions and data sets lie in Cloud Storage too, under their names."""
    from tests.deploy.dataflow.jobs import ANSWERS, answers_file

    for path in world.folder.rglob("*"):
        if path.is_file() and (path.parent == world.folder or world.folder / "made" in path.parents):
            storage.put(f"{BUCKET}/world/{path.relative_to(world.folder)}", path.read_bytes())
    storage.put(f"{BUCKET}/world/{ANSWERS}", answers_file())
    return world
