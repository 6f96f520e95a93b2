"""A Flink cluster on this machine: `python -m deploy.flink.cluster start`, `status`, `stop`.

One JobManager, TaskManagers with a worker pool each, and Beam's job server, all on the loopback interface. Each
TaskManager stands for a host: it has an address of its own, where its pool listens, and by a hosts file of its
own it finds there what the job calls `rag-beam-pool`.
"""

import argparse
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.flink.fetch import FOLDER, fetch_flink, fetch_job_server, flink_home, job_server_jar
from deploy.flink.processes import Processes
from deploy.flink.rest import Rest
from pipelines.exit_status import exit_status
from pipelines.options import CommandParser
from rag_core.errors import RagBeamError, UsageError

_POOL_HOST = "rag-beam-pool"
_SECONDS_TO_START = 180.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Cluster:
    """Where a cluster lies and listens, and how large it is.

    Attributes:
      folder: of what `deploy.flink.fetch` brought, and of the cluster's own files below `cluster`.
      task_managers: each has as many slots, so that one can do the work of all.
      first_port: of five in a row: REST, RPC, worker pools, job service, artifacts.
    """

    folder: Path = FOLDER
    task_managers: int = 2
    first_port: int = 18_080

    @property
    def processes(self) -> Processes:
        """Those of the cluster, started or not."""
        return Processes(self.folder / "cluster")

    @property
    def rest(self) -> Rest:
        """What the JobManager tells."""
        return Rest(f"http://localhost:{self.first_port}")

    @property
    def pool_port(self) -> int:
        """Where each host's pool listens."""
        return self.first_port + 2

    @property
    def job_endpoint(self) -> str:
        """Where jobs are handed in."""
        return f"localhost:{self.first_port + 3}"

    def beam_args(self, parallelism: int) -> list[str]:
        """Beam's options that hand a job to this cluster."""
        return [
            "--runner=PortableRunner",
            f"--job_endpoint={self.job_endpoint}",
            "--environment_type=EXTERNAL",
            f"--environment_config={_POOL_HOST}:{self.pool_port}",
            f"--parallelism={parallelism}",
        ]

    def start(self, job_server: bool = True) -> None:
        """Starts what does not live, and waits until all of it answers.

        Raises:
          UsageError: Flink or, where it is asked for, the job server was not fetched.
          RagBeamError: something ended, or did not answer in time; its log is named.
        """
        home, jar = flink_home(self.folder), job_server_jar(self.folder)
        if not home.exists() or (job_server and not jar.exists()):
            missing = jar if home.exists() else home
            raise UsageError(
                f"{missing}: is not there; run python -m deploy.flink.fetch --folder {self.folder}"
            )
        processes = self.processes
        processes.start(
            "jobmanager", [f"{home.resolve()}/bin/jobmanager.sh", "start-foreground"], self._environment(0)
        )
        for host in range(1, self.task_managers + 1):
            self.start_pool(host)
            processes.start(
                f"taskmanager-{host}",
                [f"{home.resolve()}/bin/taskmanager.sh", "start-foreground"],
                self._environment(host),
            )
        if job_server:
            processes.start("job-server", self._job_server(jar))
        self._wait(job_server)

    def start_pool(self, host: int) -> None:
        """Starts a host's worker pool, and starts it again whenever it dies."""
        logs = self.processes.logs / f"workers-{host}"
        command = [
            sys.executable,
            "-m",
            "pipelines.worker_pool",
            f"--address={_address(host)}:{self.pool_port}",
        ]
        self.processes.start(f"pool-{host}", [*command, f"--logs={logs}"], keep=True)

    def _environment(self, host: int) -> dict[str, str]:
        """What Flink's scripts read, for the JobManager (0) or a TaskManager; its configuration is written."""
        own = (self.folder / "cluster" / f"host-{host}").resolve()
        configuration = own / "conf"
        shutil.copytree(flink_home(self.folder) / "conf", configuration, dirs_exist_ok=True)
        hosts = own / "hosts"
        hosts.write_text(f"127.0.0.1 localhost {socket.gethostname()}\n{_address(host)} {_POOL_HOST}\n")
        settings = yaml.safe_load((flink_home(self.folder) / "conf" / "config.yaml").read_text())
        java_opts = settings["env"]["java"]["opts"]["all"]
        settings = _SETTINGS | {
            "env.java.opts.all": f"{java_opts} -Djdk.net.hosts.file={hosts}",
            "jobmanager.rpc.port": self.first_port + 1,
            "rest.port": self.first_port,
            "rest.bind-port": str(self.first_port),
            "taskmanager.host": _address(host),
            "taskmanager.bind-host": _address(host),
            "taskmanager.numberOfTaskSlots": self.task_managers,
            "taskmanager.resource-id": f"taskmanager-{host}",
            "io.tmp.dirs": str(own / "tmp"),
        }
        (own / "tmp").mkdir(exist_ok=True)
        (configuration / "config.yaml").write_text(yaml.safe_dump(settings))
        return {
            "FLINK_CONF_DIR": str(configuration),
            "FLINK_LOG_DIR": str(self.processes.logs.resolve()),
            "FLINK_PID_DIR": str(own),
            "FLINK_IDENT_STRING": f"host-{host}",
        }

    def _job_server(self, jar: Path) -> list[str]:
        artifacts = (self.folder / "cluster" / "artifacts").resolve()
        return [
            *("java", "-Xmx512m", "--add-opens=java.base/java.util=ALL-UNNAMED"),
            *("-jar", str(jar.resolve()), f"--flink-master=localhost:{self.first_port}"),
            f"--job-port={self.first_port + 3}",
            f"--artifact-port={self.first_port + 4}",
            "--expansion-port=0",
            f"--artifacts-dir={artifacts}",
        ]

    def _wait(self, job_server: bool) -> None:
        addresses = [(_address(host), self.pool_port) for host in range(1, self.task_managers + 1)]
        if job_server:
            addresses.append(("localhost", self.first_port + 3))
        deadline = time.monotonic() + _SECONDS_TO_START
        while not (all(map(_listens, addresses)) and self.rest.task_managers() >= self.task_managers):
            dead = self.processes.started().keys() - self.processes.living().keys()
            if dead or time.monotonic() > deadline:
                name = min(dead, default="jobmanager")
                what = "has ended" if dead else "and the others do not all answer"
                raise RagBeamError(f"{name}: {what}; read {self.processes.log(name)}, and stop the cluster")
            time.sleep(_POLL_SECONDS)


_SETTINGS: dict[str, Any] = {
    "jobmanager.rpc.address": "localhost",
    "jobmanager.bind-host": "localhost",
    "jobmanager.memory.heap.size": "512m",
    "rest.address": "localhost",
    "rest.bind-address": "localhost",
    "taskmanager.memory.task.heap.size": "512m",
    "taskmanager.memory.managed.size": "256m",
    "taskmanager.memory.network.min": "64m",
    "taskmanager.memory.network.max": "64m",
    "taskmanager.memory.jvm-metaspace.size": "384m",  # each job loads Beam's classes anew
    "taskmanager.load-balance.mode": "SLOTS",  # a job that does not fill the cluster has a slot on each host
    # a host that dies is noticed in seconds, and the job goes on where there are slots
    "heartbeat.interval": "2 s",
    "heartbeat.timeout": "20 s",
    "restart-strategy.type": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": 5,
    "restart-strategy.fixed-delay.delay": "5 s",
}


def _address(host: int) -> str:
    """The loopback address that stands for a host: 0 for the JobManager's."""
    return f"127.0.0.{10 + host}" if host else "localhost"


def _listens(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=1):
            return True
    except OSError:
        return False


def main(argv: Sequence[str] | None = None) -> int:
    """Starts, tells or stops a cluster; returns the exit status."""
    parser = CommandParser(
        prog="python -m deploy.flink.cluster",
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("action", choices=["start", "status", "stop"])
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="of what was fetched, and of the cluster's files"
    )
    parser.add_argument("--task_managers", type=int, default=2, help="each with a worker pool of its own")
    parser.add_argument(
        "--first_port", type=int, default=18_080, help="of five in a row; the first is Flink's page"
    )
    with exit_status() as status:
        arguments = parser.parse_args(argv)
        cluster = Cluster(arguments.folder, arguments.task_managers, arguments.first_port)
        if arguments.action == "start":
            fetch_flink(arguments.folder)
            fetch_job_server(arguments.folder)
            cluster.start()
        if arguments.action == "stop":
            cluster.processes.stop()
        else:
            _tell(cluster)
    return status.code


def _tell(cluster: Cluster) -> None:
    living = cluster.processes.living()
    for name, started in cluster.processes.started().items():
        print(f"{name}: {f'process {started.pid}' if name in living else 'has ended'}")
    if living:
        print(
            f"Flink's page: {cluster.rest.url}\nBeam's options: {' '.join(cluster.beam_args(cluster.task_managers))}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
