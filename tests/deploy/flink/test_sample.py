"""The sample on Flink equals that of this machine, whatever is killed meanwhile: `pytest -m flink`."""

import shutil
from pathlib import Path

import pytest

from deploy.flink import sample
from deploy.flink.cluster import Cluster
from deploy.flink.worker_logs import log_files, read_log

pytestmark = [pytest.mark.flink, pytest.mark.slow]

# what is made again where something is killed: the answers, and what is made of them
AGAIN = ("answers_sequence", "answer_scores_sequence")


def prove(cluster: Cluster, work: Path, *more: str) -> int:
    return sample.main(
        [f"--folder={cluster.folder}", f"--first_port={cluster.first_port}", f"--work={work}", *more]
    )


@pytest.fixture(scope="module")
def work(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of an undisturbed run on the cluster, and of one on this machine."""
    folder = tmp_path_factory.mktemp("work")
    assert prove(cluster, folder) == 0
    return folder


def test_both_hosts_worked_and_each_process_loaded_a_model_once(cluster: Cluster, work: Path) -> None:
    logs = [read_log(path) for path in log_files(cluster.processes.logs.glob("workers-*"))]
    for table in ("answers", "labels"):
        assert {log.path.parent.name for log in logs if log.units[table]} == {"workers-1", "workers-2"}
    assert all(count == 1 for log in logs for count in log.loads.values())


@pytest.mark.parametrize("victim", ["worker", "pool", "taskmanager"])
def test_the_tables_are_equal_whatever_is_killed(
    cluster: Cluster, work: Path, victim: str, capsys: pytest.CaptureFixture
) -> None:
    again = work / victim
    shutil.copytree(work / "cluster", again)
    for name in AGAIN:
        shutil.rmtree(again / name)
    assert prove(cluster, work, f"--name={victim}", f"--kill={victim}") == 0
    assert f"killed: {victim} of host" in capsys.readouterr().out
    cluster.start()  # what is dead, for the next one
