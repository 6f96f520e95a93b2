"""An Airflow DAG that makes a night: copy it to the DAGs folder of Airflow 2.9 or later, and change the paths.

One night at a time. A night that fails is tried again and goes on where it ended; one that ends with exit
status 2 (a mistake in options or inputs, or another run at work) is not, since trying again would not help.
The last line's name=value pairs are the task's result, for tasks after it.
"""

import datetime
import subprocess

try:  # Airflow 3
    from airflow.sdk import dag, task
    from airflow.sdk.exceptions import AirflowException, AirflowFailException
except ImportError:
    from airflow.decorators import dag, task
    from airflow.exceptions import AirflowException, AirflowFailException

COMMAND = [
    "/srv/rag-beam/.venv/bin/rag-beam",
    "run",
    "/srv/rag-beam/nightly.yaml",
    "--refresh",
    "--metrics_file",
    "/var/lib/node_exporter/textfile_collector/rag_beam.prom",
]
_MISTAKE = 2


@dag(
    dag_id="rag_beam_nightly",
    schedule="0 2 * * *",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False,  # a night takes in all that changed since the last one
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": datetime.timedelta(minutes=10)},
)
def rag_beam_nightly():
    """Answers what is new or changed."""

    @task
    def make_night() -> dict[str, str]:
        """Runs the command; its output goes to the task's log as it comes."""
        with subprocess.Popen(
            COMMAND, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            last = ""
            try:
                assert process.stdout is not None  # it is piped
                for line in process.stdout:
                    print(line, end="", flush=True)
                    last = line if line.startswith("run: ") else last
            except BaseException:
                process.terminate()  # the task is stopped: so is the command, which keeps what is whole
                raise
        if process.returncode:
            kind = AirflowFailException if process.returncode == _MISTAKE else AirflowException
            raise kind(f"rag-beam ended with exit status {process.returncode}; the log says why")
        return dict(pair.split("=", 1) for pair in last.removeprefix("run: ").split())

    make_night()


rag_beam_nightly()
