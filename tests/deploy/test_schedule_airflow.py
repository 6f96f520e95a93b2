"""The DAG in Airflow itself: run with the Python of an environment that has it.

Airflow pins other versions of what rag-beam needs, so that the two do not share an environment. In one with
`apache-airflow` and `pytest`: `python -m pytest tests/deploy/test_schedule_airflow.py`.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

airflow = pytest.importorskip("airflow")

DAG_FILE = Path(__file__).parents[2] / "deploy" / "schedule" / "airflow_dag.py"


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("airflow_dag", DAG_FILE)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_a_night_is_made_one_at_a_time_and_never_caught_up_on(module: ModuleType) -> None:
    dag = module.rag_beam_nightly()
    assert [task.task_id for task in dag.tasks] == ["make_night"]
    assert dag.max_active_runs == 1 and not dag.catchup
    assert dag.tasks[0].retries == 2


def test_the_last_line_is_the_tasks_result_and_a_mistake_is_not_tried_again(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_night = module.rag_beam_nightly().tasks[0].python_callable

    def ending_with(status: int) -> None:
        program = (
            f"print('[1/2] passages'); print('run: status={status} answered=3'); raise SystemExit({status})"
        )
        monkeypatch.setattr(module, "COMMAND", [sys.executable, "-c", program])

    ending_with(0)
    assert make_night() == {"status": "0", "answered": "3"}
    assert "[1/2] passages" in capsys.readouterr().out
    ending_with(2)
    with pytest.raises(module.AirflowFailException, match="exit status 2"):
        make_night()
    ending_with(1)
    with pytest.raises(module.AirflowException, match="exit status 1") as failed:
        make_night()
    assert not isinstance(failed.value, module.AirflowFailException)
