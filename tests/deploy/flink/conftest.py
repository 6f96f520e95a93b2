"""A cluster of its own for the tests, of what `deploy.flink.fetch` brings; skipped where that cannot be had."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.flink.cluster import Cluster
from deploy.flink.fetch import FOLDER, fetch_flink, fetch_job_server
from rag_core.errors import RagBeamError

FIRST_PORT = 28_080


@pytest.fixture(scope="module")
def stopped_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two TaskManagers, not started; whatever a test starts is stopped."""
    if shutil.which("java") is None:
        pytest.skip("needs java")
    try:
        home = fetch_flink(FOLDER)
    except RagBeamError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("flink")
    (folder / home.name).symlink_to(home.resolve())
    cluster = Cluster(folder, first_port=FIRST_PORT)
    yield cluster
    cluster.processes.stop()


@pytest.fixture(scope="module")
def cluster(stopped_cluster: Cluster) -> Cluster:
    """The same with Beam's job server, started."""
    try:
        jar = fetch_job_server(FOLDER)
    except RagBeamError as error:
        pytest.skip(str(error))
    Path(stopped_cluster.folder, jar.name).symlink_to(jar.resolve())
    stopped_cluster.start()
    return stopped_cluster
