"""From measured runs to estimates: the arithmetic, with runs whose times are given."""

import pytest

from pipelines.estimates.retrieving import scaled_search_seconds
from pipelines.estimates.rows import warm_up_seconds
from pipelines.estimates.sample_run import RUNNER_SECONDS, SampleRun, grow


def test_an_estimate_scales_time_and_bytes_by_rows():
    measured = SampleRun(rows=100, seconds=2.0, work_bytes=700, part_bytes=500)
    estimate = measured.estimate(1_000, parts=3, load_seconds=4.0)
    assert (estimate.rows, estimate.parts) == (1_000, 3)
    assert estimate.seconds == RUNNER_SECONDS + 4.0 + 20.0
    assert estimate.disk_bytes == 5_000
    assert estimate.peak_disk_bytes == 12_000  # units of 7,000 bytes beside parts of 5,000


def test_processes_share_the_rows_and_each_loads_the_model():
    measured = SampleRun(rows=100, seconds=2.0, work_bytes=0, part_bytes=0)
    assert measured.estimate(1_000, parts=1, load_seconds=4.0, processes=4).seconds == RUNNER_SECONDS + 4 + 5


def test_bytes_are_those_of_the_run_without_repetitions():
    repeated = SampleRun(rows=400, seconds=2.0, work_bytes=40, part_bytes=40)
    sized = SampleRun(rows=100, seconds=0.1, work_bytes=20, part_bytes=300)
    estimate = repeated.estimate(1_000, parts=1, sized=sized)
    assert (estimate.disk_bytes, estimate.peak_disk_bytes) == (3_000, 3_200)
    assert estimate.seconds == RUNNER_SECONDS + 5.0


@pytest.mark.parametrize(
    ("sample_rows", "rows", "expected"),
    [
        (100_000, 100_000, [10, 40, 160]),  # 1.6 s are enough
        (50, 100_000, [10, 40, 50, 200]),  # the whole sample once, then repeated
        (100_000, 100, [10, 40, 100]),  # never more than there are
        (5, 3, [3]),
    ],
)
def test_samples_grow_until_a_run_is_long_enough(sample_rows, rows, expected):
    asked = []

    def run(count: int) -> SampleRun:
        asked.append(count)
        return SampleRun(count, count * 0.01, count, count)

    last, sized = grow(run, first_rows=10, sample_rows=sample_rows, rows=rows, enough_seconds=1.5)
    assert asked == expected
    assert last.rows == expected[-1]
    assert sized.rows == max(count for count in expected if count <= sample_rows)


def test_warming_up_is_what_the_first_run_took_beyond_the_rate():
    first, last = SampleRun(10, 3.0, 0, 0), SampleRun(100, 5.0, 0, 0)
    assert warm_up_seconds(first, last) == 2.5
    assert warm_up_seconds(last, last) == 0.0


def test_a_search_grows_by_questions_times_vectors():
    assert scaled_search_seconds(1.5, (100, 1_000), (400, 50_000)) == 1.5 * 4 * 50
