"""What a scheduler is told: the exit status whatever ends a run, and metrics that replace the file at once."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.dataset.ledger import Counts
from pipelines.dataset.manifest import Manifest
from pipelines.exit_status import exit_status
from pipelines.run_metrics import MetricsFile
from pipelines.run_report import RunReport
from rag_core.errors import RagBeamError, UsageError, WriteFailed

SUCCESS = "rag_beam_run_last_success_timestamp_seconds"


@pytest.mark.parametrize(
    ("error", "code"), [(None, 0), (UsageError("a mistake"), 2), (RagBeamError("no luck"), 1)]
)
def test_the_status_is_told_once_however_a_command_ends(error: Exception | None, code: int) -> None:
    told: list[int] = []
    with exit_status() as status:
        status.at_end = told.append
        if error is not None:
            raise error
    assert told == [code] and status.code == code


def test_the_status_of_an_error_that_nobody_understands_is_1() -> None:
    told: list[int] = []
    with pytest.raises(ZeroDivisionError), exit_status() as status:
        status.at_end = told.append
        raise ZeroDivisionError
    assert told == [1]


def test_a_signal_is_told(tmp_path: Path) -> None:
    program = (
        "import os, signal\n"
        "from pipelines.exit_status import exit_status\n"
        "with exit_status() as status:\n"
        "    status.at_end = lambda code: print(f'told {code}')\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    signal.pause()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, "told 143\n")


def test_what_cannot_be_told_fails_a_run_that_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(code: int) -> None:
        raise WriteFailed("metrics: cannot be written")

    with exit_status() as status:
        status.at_end = fail
    assert status.code == 1
    assert capsys.readouterr().err == "rag-beam: metrics: cannot be written\n"
    with exit_status() as status:
        status.at_end = fail
        raise UsageError("a mistake")
    assert status.code == 2  # the mistake is the reason
    assert capsys.readouterr().err == "rag-beam: a mistake\nrag-beam: metrics: cannot be written\n"


def samples(path: Path) -> dict[str, float]:
    """The figures by name, with their labels but the run's."""
    return {
        " ".join(
            [
                sample.name,
                *(
                    f"{key}={sample.labels[key]}"
                    for key in ("step", "stage", "outcome", "change")
                    if key in sample.labels
                ),
            ]
        ): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def test_metrics_tell_a_run_and_keep_its_last_success(tmp_path: Path) -> None:
    report = RunReport()
    counts = Counts(read=10, accepted=8, rejected=Counter(bad_field=2), extra=Counter(reused=5))
    manifest = Manifest("answers", [], "f", [], {}, counts)
    report.add('the "answers"', "generate", manifest, made=True, seconds=2.5)
    report.add("others", "generate", manifest, made=False, seconds=0.5)
    report.changes['the "answers"'] = Counter(new_answer=1)
    path = tmp_path / "rag_beam.prom"
    MetricsFile(str(path), "jobs/nightly.yaml").write(report, 0)
    told = samples(path)
    assert told['rag_beam_step_records step=the "answers" stage=generate outcome=new'] == 3
    assert told['rag_beam_step_records step=the "answers" stage=generate outcome=kept'] == 5
    assert told["rag_beam_step_records step=others stage=generate outcome=kept"] == 8
    assert told['rag_beam_step_records step=the "answers" stage=generate outcome=rejected'] == 2
    assert told['rag_beam_step_seconds step=the "answers" stage=generate'] == 2.5
    assert told['rag_beam_changes step=the "answers" change=new_answer'] == 1
    assert 'run="nightly"' in path.read_text()
    success = told[SUCCESS]

    MetricsFile(str(path), "jobs/nightly.yaml").write(RunReport(), 1)
    assert samples(path)["rag_beam_run_exit_status"] == 1 and samples(path)[SUCCESS] == success
    MetricsFile(str(path), "jobs/another.yaml").write(RunReport(), 1)
    assert SUCCESS not in samples(path)  # another run's success is not this one's
    path.write_text("no metrics {{{")
    MetricsFile(str(path), "jobs/nightly.yaml").write(RunReport(), 143)
    assert samples(path)["rag_beam_run_exit_status"] == 143
    assert os.listdir(tmp_path) == ["rag_beam.prom"]
    assert report.summary(0).startswith(
        "run: status=0 night=none answered=3 kept=13 rejected=4 new_answer=1 "
    )


def test_what_metrics_are_written_with_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(UsageError, match=r"pip install 'rag-beam\[metrics\]'"):
        MetricsFile(str(tmp_path / "rag_beam.prom"), "nightly.yaml")
