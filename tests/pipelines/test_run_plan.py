"""`rag-beam run --plan`: what steps will take, from samples; and beside it, after the run, what they took."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from pipelines.estimates.forecasts import Estimate
from pipelines.run_plan import (
    Outcome,
    PlannedStep,
    comparison_table,
    duration,
    plan_table,
    read_plan,
    size,
    write_plan,
)
from rag_core.errors import UsageError
from tests.pipelines.commands import manifest_of, rag_beam, status_of
from tests.pipelines.conftest import World
from tests.pipelines.test_run import write_run_file

PLANNED = Estimate(
    rows=1_200, seconds=4_800, disk_bytes=2_000, peak_disk_bytes=5_000, parts=3, memory_bytes=700_000_000
)


def cells(text: str, name: str) -> str:
    """The line of a step, its columns one blank apart."""
    [line] = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return " ".join(line.split())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (3.44, "3.4 s"),
        (34.2, "34 s"),
        (59.7, "1 min"),
        (320, "5 min 20 s"),
        (3_599.7, "1 h"),
        (4_800, "1 h 20 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_times_for_people(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_240, "1.2 kB"),
        (999_700, "1.0 MB"),
        (34_000_000, "34 MB"),
        (1.2e9, "1.2 GB"),
    ],
)
def test_sizes_for_people(count, text):
    assert size(count) == text


def test_the_table_adds_up_time_and_disk():
    table = plan_table(
        [
            PlannedStep("passages", "chunk", "complete", outcome=Outcome(900, 1, 1_000)),
            PlannedStep("embeddings", "encode", "to do", estimate=PLANNED),
            PlannedStep("index", "index", "unfinished", estimate=PLANNED),
            PlannedStep("scores", "evaluate", "to do"),
        ]
    )
    assert cells(table, "passages") == "passages chunk complete 900 1.0 kB 1"
    assert cells(table, "embeddings") == "embeddings encode to do 1,200 1 h 20 min 2.0 kB 5.0 kB 700 MB 3"
    assert cells(table, "scores").endswith("not estimated")
    # 1,000 bytes that are there, 2,000 of the first step, 5,000 at the peak of the second
    assert table.endswith("in all about 2 h 40 min; on the disk 5.0 kB, 8.0 kB at the peak")


def test_estimate_and_fact_side_by_side():
    table = comparison_table(
        {"embeddings": PLANNED, "index": PLANNED},
        {
            "passages": Outcome(900, 1, 1_000),
            "embeddings": Outcome(1_190, 3, 2_500, seconds=7_200, memory_bytes=800_000_000),
            "index": Outcome(1_190, 2, 2_500, seconds=60, memory_bytes=800_000_000, resumed=True),
            "scores": Outcome(1, 1, 10, seconds=2, memory_bytes=800_000_000),
        },
    )
    assert cells(table, "passages") == "passages nothing to do 1.0 kB 900 1"
    assert cells(table, "embeddings") == (
        "embeddings 1 h 20 min / 2 h 1.50 2.0 kB / 2.5 kB 700 MB / 800 MB 1,200 / 1,190 3 / 3"
    )
    assert "1 h 20 min / 1 min for the rest 2.0 kB" in cells(table, "index")  # no ratio
    assert cells(table, "scores") == "scores – / 2.0 s – / 10 B – / 800 MB – / 1 – / 1"


def test_the_file_of_a_plan(tmp_path):
    assert read_plan(str(tmp_path)) is None
    steps = [PlannedStep("a", "encode", "to do", estimate=PLANNED), PlannedStep("b", "evaluate", "to do")]
    write_plan(str(tmp_path), steps)
    assert read_plan(str(tmp_path)) == {"a": PLANNED}
    for content in ("{", "[]", '{"steps": {"a": {"estimate": {"rows": 1}}}}'):
        (tmp_path / "plan.json").write_text(content)
        with pytest.raises(UsageError, match=r"plan\.json: expected what rag-beam run --plan writes"):
            read_plan(str(tmp_path))


def test_a_plan_before_anything_is_made(world: World, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Against what the stages themselves have made of the same files."""
    content = write_run_file(world, tmp_path / "run.yaml")
    content["steps"]["labels"] = {
        "stage": "classify",
        "retrievals": "found",
        "model": content["steps"]["answers"]["model"],
        "label_set": ["yes", "no"],
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    rag_beam("run", str(tmp_path / "run.yaml"), plan=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["plan.json"]
    estimates = read_plan(str(tmp_path / "out"))
    assert estimates is not None
    printed = capsys.readouterr().out
    assert "not estimated" in cells(printed, "scores")
    for name, plan in estimates.items():
        assert f" to do {plan.rows} " in cells(printed, name)
        assert plan.seconds > 0 and plan.memory_bytes > 0, name
        assert 0 < plan.disk_bytes <= plan.peak_disk_bytes, name
    rows = {"passages": 80, "embeddings": 80, "index": 80, "found": 10, "answers": 10, "labels": 10}
    assert {name: plan.rows for name, plan in estimates.items()} == rows
    made = {"passages": "passages", "embeddings": "embeddings", "index": "index", "found": "retrievals"}
    for name, folder in made.items():
        parts = manifest_of(world.made(folder)).parts
        assert estimates[name].parts == len(parts), name
        # small files are half footer
        assert estimates[name].disk_bytes == pytest.approx(sum(part.bytes for part in parts), rel=0.5), name


def test_a_plan_of_what_is_half_there(world: World, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A finished step is told as it is, and what follows is measured on its rows."""
    write_run_file(world, tmp_path / "run.yaml")
    shutil.copytree(world.made("index"), tmp_path / "out" / "index")
    rag_beam("run", str(tmp_path / "run.yaml"), plan=True, only=["index", "found"])
    assert cells(capsys.readouterr().out, "index").startswith("index index complete 80 ")
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())["steps"]
    assert plan["index"] == {"stage": "index", "state": "complete", "estimate": None}
    assert plan["found"]["estimate"]["rows"] == 10


def test_what_is_missing_is_named_as_the_step_would(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    content = write_run_file(world, tmp_path / "run.yaml")
    assert status_of("run", str(tmp_path / "run.yaml"), plan=True, only=["embeddings"]) == 2
    assert "rag-beam: embeddings: " in (told := capsys.readouterr().err) and "no such folder" in told
    content["steps"]["embeddings"]["encoder"] = "no/such/model/here"
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    assert status_of("run", str(tmp_path / "run.yaml"), plan=True) == 2
    assert "rag-beam: embeddings: no/such/model/here" in capsys.readouterr().err
    content["steps"]["passages"]["input"] = ["none.jsonl"]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    assert status_of("run", str(tmp_path / "run.yaml"), plan=True) == 2
    assert "none.jsonl: no file matches" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
