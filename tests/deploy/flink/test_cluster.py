"""A cluster comes up, tells of its dead and takes them up again: `pytest -m flink`."""

import time

import pytest

from deploy.flink.cluster import Cluster
from rag_core.errors import UsageError

pytestmark = [pytest.mark.flink, pytest.mark.slow]


def test_a_cluster_needs_the_job_server(stopped_cluster: Cluster) -> None:
    with pytest.raises(UsageError, match=r"job-server.*jar: is not there; run python -m deploy.flink.fetch"):
        stopped_cluster.start()
    assert stopped_cluster.processes.started() == {}


def test_each_task_manager_has_a_pool_and_comes_back(stopped_cluster: Cluster) -> None:
    stopped_cluster.start(job_server=False)
    names = {"jobmanager", "pool-1", "taskmanager-1", "pool-2", "taskmanager-2"}
    assert stopped_cluster.processes.living().keys() == names
    assert stopped_cluster.rest.task_managers() == 2
    killed = stopped_cluster.processes.living()["taskmanager-2"]
    killed.kill()
    while stopped_cluster.rest.task_managers() == 2:  # until the JobManager has noticed
        time.sleep(0.1)
    assert stopped_cluster.processes.living().keys() == names - {"taskmanager-2"}
    stopped_cluster.start(job_server=False)
    assert stopped_cluster.rest.task_managers() == 2
    assert stopped_cluster.processes.living()["taskmanager-2"] != killed
