"""What chunking will take: rows by bytes, parts by source."""

from pathlib import Path

import pytest

from pipelines.chunk import ChunkSettings, estimate
from pipelines.estimates.forecasts import Estimate, Forecasts
from tests.pipelines.conftest import write_lines

ROWS = (3_000, 9_000)


def corpus(folder: Path) -> list[str]:
    """Two files of documents that are a passage each."""
    for name, rows in zip(("few", "many"), ROWS, strict=True):
        write_lines(
            folder / f"{name}.jsonl",
            [{"id": f"{name}{n:04d}", "text": f"{n:04d} " * 50} for n in range(rows)],
        )
    return [str(folder / "few.jsonl"), str(folder / "many.jsonl")]


def estimated(**settings) -> Estimate | None:
    return estimate(ChunkSettings(output="nowhere", **settings), 1, Forecasts())


def test_a_corpus_that_is_read_whole_is_counted(tmp_path):
    plan = estimated(input=corpus(tmp_path), rows_per_part=4_000)
    assert plan is not None
    assert (plan.rows, plan.parts, plan.notes) == (sum(ROWS), 1 + 3, ())
    assert plan.sample is not None and plan.sample.num_rows == 2_000


def test_nothing_is_said_of_a_data_set_that_streams_from_elsewhere():
    assert estimated(input=["somebody/corpus"], input_format="hf_dataset") is None


@pytest.mark.parametrize(("workers", "processes"), [(1, 1), (2, 2), (64, 2)])
def test_workers_add_up_as_far_as_there_are_units(tmp_path, monkeypatch, workers, processes):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    seen = []
    monkeypatch.setattr(
        "pipelines.estimates.sample_run.SampleRun.estimate",
        lambda run, rows, *, processes, **others: seen.append(processes),
    )
    estimate(ChunkSettings(output="nowhere", input=corpus(tmp_path)), workers, Forecasts())
    assert seen == [processes]
