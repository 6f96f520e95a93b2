"""What is known of an input: from a step's estimate, or from what lies there."""

import dataclasses

import pyarrow as pa
import pytest

from pipelines.estimates.forecasts import Estimate, Forecast, Forecasts, NothingKnown, evenly
from rag_core.errors import UsageError
from tests.pipelines.commands import read_table
from tests.pipelines.conftest import World

PASSAGES = pa.table({"passage_id": ["a", "b"]})
ESTIMATE = Estimate(
    rows=7, seconds=1.5, disk_bytes=10, peak_disk_bytes=20, parts=2, notes=("why",), sample=PASSAGES
)


def test_an_estimate_survives_its_json_but_for_the_sample():
    assert Estimate.from_json(ESTIMATE.to_json()) == dataclasses.replace(ESTIMATE, sample=None)


def test_an_earlier_step_of_the_plan_is_taken_at_its_word():
    forecasts = Forecasts()
    forecasts.add("out/passages", ESTIMATE)
    assert forecasts.of("out/passages", "passages") == Forecast(7, 2, PASSAGES)
    forecasts.add("out/passages", None)
    with pytest.raises(NothingKnown, match="out/passages: could not be estimated"):
        forecasts.of("out/passages", "passages")


def test_what_lies_there_is_read_in_evenly_spaced_runs(world: World):
    passages = read_table(world.made("passages"))
    known = Forecasts().of(world.made("passages"), "passages")
    assert (known.rows, known.parts) == (passages.num_rows, 1)
    assert known.sample.equals(passages)
    some = Forecasts().of(world.made("passages"), "passages", sample_rows=32).sample
    assert some.num_rows == 32
    assert some.slice(0, 2).equals(passages.slice(0, 2))
    assert some.slice(30).equals(passages.slice(passages.num_rows - 2))


def test_what_is_nowhere_is_named(tmp_path):
    with pytest.raises(UsageError, match="nothing: no such folder or file; expected the passages"):
        Forecasts().of(str(tmp_path / "nothing"), "passages")


def test_parts_of_an_output_never_mix_those_of_the_input():
    assert Forecast(100, 4, PASSAGES).parts_of(50) == 4
    assert Forecast(100, 4, PASSAGES).parts_of(10) == 12  # 25 rows of a part become 3


def test_evenly_spaced_rows_and_repeated_ones():
    table = pa.table({"row": range(10)})
    assert evenly(table, 4).column("row").to_pylist() == [0, 3, 6, 9]
    assert evenly(table.slice(0, 2), 5).column("row").to_pylist() == [0, 1, 0, 1, 0]
