"""One worker against two: the table of given times, the copies of the inputs, the commands. Nothing is timed."""

import json
from pathlib import Path

import pytest

from benchmarks.local_scaling import (
    STAGES,
    Inputs,
    differing_files,
    digests,
    parse_arguments,
    stage_arguments,
    write_inputs,
)
from benchmarks.local_scaling_times import Measured, compare, table
from pipelines import run


def encode_times(**changes: object) -> Measured:
    """Medians: 30 s and 20 s, starts of 10 s and 12 s."""
    values = {
        "stage": "encode",
        "rows": 12_000,
        "seconds": {1: [30.0, 29.0, 50.0], 2: [20.0, 18.0, 21.0]},
        "start_seconds": {1: [10.0, 9.0, 11.0], 2: [12.0, 12.0, 16.0]},
    }
    return Measured(**(values | changes))


def test_the_table_of_given_times():
    chunk = Measured(
        "chunk", 6, {1: [4.0], 2: [8.0]}, {1: [4.5], 2: [7.0]}, ["whole, 2 workers, run 1: a.parquet"]
    )
    assert table([encode_times(), chunk], [0.4, 0.2, 0.3]).splitlines() == [
        "| stage | rows | 1 worker, s | 2 workers, s | speed-up | beyond start | start of 1 worker, s | "
        "start of 2 workers, s | equal |",
        "|---|---|---|---|---|---|---|---|---|",
        # 30 / 20, and (30 - 10) / (20 - 12)
        "| encode | 12,000 | 30.0 (29.0–50.0) | 20.0 (18.0–21.0) | 1.50 | 2.50 | 10.0 (9.0–11.0) | "
        "12.0 (12.0–16.0) | yes |",
        # one worker's run took no longer than its start
        "| chunk | 6 | 4.0 (4.0–4.0) | 8.0 (8.0–8.0) | 0.50 | – | 4.5 (4.5–4.5) | 7.0 (7.0–7.0) | NO |",
        "",
        "an empty command: 0.3 (0.2–0.4) s",
        "chunk differs: whole, 2 workers, run 1: a.parquet",
    ]


def test_nothing_is_told_beyond_start_where_one_start_took_as_long_as_one_run():
    assert encode_times(start_seconds={1: [10.0], 2: [12.0, 12.0, 18.0]}).speed_up_beyond_start(2) is None


def test_each_number_of_workers_is_compared_with_the_first():
    three = encode_times(
        seconds={2: [30.0], 1: [60.0], 4: [20.0]}, start_seconds={2: [1.0], 1: [1.0], 4: [1.0]}
    )
    one, four = compare([three], [0.3], {"copies": 8})
    assert (one.name, one.ours, one.peer, one.ratio) == ("encode, 1 worker, peer: 2 workers", 60.0, 30.0, 0.5)
    assert (four.ratio, four.runs, four.agrees, four.settings["copies"]) == (1.5, 1, True, 8)
    assert table([three], [0.3]).count("speed-up of") == 2
    assert not compare([encode_times(differing=["whole, 2 workers, run 1: a"])], [0.3], {})[0].agrees


def test_copies_have_ids_of_their_own(tmp_path: Path):
    corpus, questions = tmp_path / "a.jsonl", tmp_path / "q.jsonl"
    # a line separator inside a string ends no line of JSON
    rows = [{"document_id": f"d{number}", "title": "T", "text": "one\u2028two"} for number in range(3)]
    corpus.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    questions.write_text(json.dumps({"question_id": "q", "question": "Who?"}) + "\n")
    whole = write_inputs(tmp_path / "whole", [corpus], questions, copies=2, question_copies=3)
    files = sorted((tmp_path / "whole" / "corpus").iterdir())
    made = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert [row["document_id"] for row in made] == ["0-d0", "0-d1", "0-d2", "1-d0", "1-d1", "1-d2"]
    assert {row["text"] for row in made} == {"one\u2028two"}
    asked = [json.loads(line)["question_id"] for line in whole.questions.read_text().splitlines()]
    assert asked == ["0-q", "1-q", "2-q"]
    write_inputs(tmp_path / "least", [corpus], questions, rows=1)
    assert len(next((tmp_path / "least" / "corpus").iterdir()).read_text().splitlines()) == 1


def test_rows_without_an_id_are_refused(tmp_path: Path):
    corpus = tmp_path / "a.jsonl"
    corpus.write_text('{"title": "T", "text": "one"}\n')
    with pytest.raises(SystemExit, match=r"a\.jsonl, line 1: has no document_id"):
        write_inputs(tmp_path / "whole", [corpus], corpus)


@pytest.mark.parametrize("stage", STAGES)
def test_the_stages_know_the_options_that_they_are_given(stage: str, tmp_path: Path):
    chosen = ["--work", str(tmp_path), "--unit_rows", "encode=7", "index=7", "retrieve=7", "generate=7"]
    inputs = Inputs(f"{tmp_path}/corpus/*.jsonl", tmp_path / "questions.jsonl")
    name, *argv = stage_arguments(stage, inputs, parse_arguments(chosen))
    settings, beam_args = run.STAGES[name].parse([*argv, "--output", str(tmp_path / "out")])
    assert beam_args == []
    if stage != "chunk":
        assert 7 in (getattr(settings, "unit_rows", None), getattr(settings, "shard_rows", None))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--corpus", "a.jsonl"], "give --questions too"),
        (["--workers", "1", "1"], "expected different numbers of processes"),
        (["--runs", "0"], "--runs 0: expected 1 or more"),
        (["--questions", "work/q.jsonl"], "--work work: holds work/q.jsonl"),
        (["--unit_rows", "chunk=5"], "chunk=5: expected STAGE=ROWS"),
    ],
)
def test_wrong_options(options: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse_arguments(["--work", "work", *options])
    assert said in capsys.readouterr().err


def test_a_file_that_differs_is_named(tmp_path: Path):
    for folder, content in (("one", "same"), ("two", "other")):
        (tmp_path / folder / "rejects").mkdir(parents=True)
        (tmp_path / folder / "part.parquet").write_text("same")
        (tmp_path / folder / "rejects" / "part.parquet").write_text(content)
    (tmp_path / "two" / "left.behind").touch()
    one, two = digests(tmp_path / "one"), digests(tmp_path / "two")
    assert differing_files(one, one) == []
    assert differing_files(two, one) == ["left.behind", "rejects/part.parquet"]
