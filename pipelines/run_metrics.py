"""A run's metrics in Prometheus' text format, for the textfile collector of a node exporter."""

import os
import time
from typing import Any

from pipelines.run_report import RunReport
from rag_core.errors import UsageError
from rag_core.storage import file_stem, write_failure

_LAST_SUCCESS = "rag_beam_run_last_success_timestamp_seconds"


class MetricsFile:
    """The file of one scheduled run: replaced whole at the end of each, the last success carried over."""

    def __init__(self, path: str, run_file: str):
        """Sees to it that the file can be written, before any work is done.

        Args:
          run_file: its name without folder and ending tells this run's figures from those of others.

        Raises:
          UsageError: prometheus-client is not installed, or the folder is not there or may not be written.
        """
        try:
            import prometheus_client  # noqa: F401  late: only scheduled runs need it
        except ImportError as error:
            raise UsageError(
                "--metrics_file: is written with prometheus-client, which is not installed: pip install "
                "'rag-beam[metrics]'"
            ) from error
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK) or os.path.isdir(path):
            raise UsageError(
                f"--metrics_file {path}: cannot be written; give a file in a folder that is there and may be written"
            )
        self._path = path
        self._run = file_stem(run_file)

    def write(self, report: RunReport, exit_status: int) -> None:
        """Replaces the file at once.

        Raises:
          WriteFailed: it cannot be written.
        """
        from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

        registry = CollectorRegistry()

        def gauge(name: str, text: str, value: float, **labels: str) -> None:
            family = families.get(name)
            if family is None:
                names = ["run", *labels]
                family = families[name] = Gauge(f"rag_beam_{name}", text, names, registry=registry)
            family.labels(run=self._run, **labels).set(value)

        families: dict[str, Any] = {}
        now = time.time()
        success = now if exit_status == 0 else self._last_success()
        gauge("run_exit_status", "Exit status of the last run.", exit_status)
        gauge("run_end_timestamp_seconds", "When the last run ended.", now)
        if success is not None:
            gauge(
                _LAST_SUCCESS.removeprefix("rag_beam_"), "When a run last ended with exit status 0.", success
            )
        gauge("run_seconds", "How long the last run took.", report.seconds)
        for step in report.steps:
            labels = {"step": step.name, "stage": step.stage}
            gauge("step_seconds", "How long a step of the last run took.", step.seconds, **labels)
            for outcome, count in step.records().items():
                gauge(
                    "step_records",
                    "Records of a step of the last run: new (computed), kept, rejected or left out.",
                    count,
                    **labels,
                    outcome=outcome,
                )
        for name, changes in report.changes.items():
            for change, count in sorted(changes.items()):
                gauge(
                    "changes",
                    "Questions whose answer or label the last run changed, by what became of them.",
                    count,
                    step=name,
                    change=change,
                )
        try:
            write_to_textfile(self._path, registry)
        except OSError as error:
            raise write_failure(self._path, error) from error

    def _last_success(self) -> float | None:
        """When a run last succeeded, as the file of the run before tells; None where it does not."""
        from prometheus_client.parser import text_string_to_metric_families

        try:
            with open(self._path, encoding="utf-8") as file:
                families = list(text_string_to_metric_families(file.read()))
        except (OSError, ValueError):
            return None
        for family in families:
            for sample in family.samples:
                if sample.name == _LAST_SUCCESS and sample.labels.get("run") == self._run:
                    return sample.value
        return None
