"""Fields of references as slices: every format with named fields, and what cannot be sliced by."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rag_core.errors import UsageError
from rag_core.questions import MAX_SLICES, check_slices, parse_ways, plan_question_sources, read_slices
from tests.rag_core.corpus.reading import write
from tests.rag_core.questions.reading import STORAGE, decided, read

WAYS = parse_ways(["split", "split,year"])


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def slices(path, ways=WAYS):
    (source,) = plan_question_sources(STORAGE, [path], "auto")
    return list(read_slices(STORAGE, source, ways))


def check(path, *arguments, questions_format="auto"):
    check_slices(STORAGE, plan_question_sources(STORAGE, [path], questions_format), parse_ways(arguments))


def test_json_lines_keep_the_records_places(tmp_path):
    rows = [
        {"question": "a", "split": "x", "year": 2018},
        {"question": "b", "split": " y ", "year": None},
        {"question": "c", "split": "", "year": 1},
        {"question": "d", "split": True, "year": 1.5},
        {"answer": "a question is missing", "split": "x", "year": 1},
    ]
    path = write(tmp_path, "q.jsonl", jsonl(*rows[:2]) + "\nno json\n" + jsonl(*rows[2:]))
    assert slices(path) == [
        ("split=x", "split=x,year=2018"),
        ("split=y", None),
        (None, None),  # an empty line
        (None, None),  # no JSON
        (None, None),
        ("split=true", "split=true,year=1.5"),
        ("split=x", "split=x,year=1"),
    ]
    assert len(read(path)) == 7  # checked there to have positions 0 to 6


def test_fever_and_kilt(tmp_path):
    fever = write(tmp_path, "f.jsonl", jsonl({"id": 1, "claim": "c", "label": "S", "split": "x", "year": 7}))
    kilt = write(tmp_path, "k.jsonl", jsonl({"id": "a", "input": "q", "output": [], "split": "x", "year": 7}))
    assert (decided(fever), decided(kilt)) == ("fever", "kilt")
    assert slices(fever) == slices(kilt) == [("split=x", "split=x,year=7")]


def test_csv(tmp_path):
    path = write(tmp_path, "q.csv", 'question,split,year\n"a,\nb",x,2018\nc,x,y,z\nd,,1\ne,y,\n')
    assert slices(path) == [("split=x", "split=x,year=2018"), (None, None), (None, None), ("split=y", None)]
    assert [record.position for record in read(path)] == [0, 1, 2, 3]


def test_parquet_with_and_without_the_fields(tmp_path):
    table = pa.table({"question": ["a", "b"], "split": ["x", None], "year": pa.array([1, 2], pa.int16())})
    pq.write_table(table, tmp_path / "q.parquet")
    assert slices(str(tmp_path / "q.parquet")) == [("split=x", "split=x,year=1"), (None, None)]
    pq.write_table(table.select(["question"]), tmp_path / "r.parquet")
    assert slices(str(tmp_path / "r.parquet")) == [(None, None)] * 2


def test_a_cut_file_ends_where_its_questions_end(tmp_path):
    rows = [{"question": f"q{n * n % 9973}", "split": "x", "year": 1} for n in range(20_000)]
    content = gzip.compress(jsonl(*rows).encode())
    path = write(tmp_path, "q.jsonl.gz", content[: len(content) // 2])
    assert len(slices(path)) == len(read(path)) - 1  # the last one says that the file is cut


def test_ways_are_parsed():
    assert parse_ways(["a", "b, c"]) == (("a",), ("b", "c"))
    for arguments in (["a", "a"], ["a,a"], ["a,"], [""]):
        with pytest.raises(UsageError, match=r"--slice_by .*: expected a field, or different fields"):
            parse_ways(arguments)


def test_an_unknown_field_names_those_there_are(tmp_path):
    write(tmp_path, "1.jsonl", jsonl({"question": "a", "split": "x"}))
    write(tmp_path, "2.jsonl", jsonl({"question": "a", "year": 1, "note": ""}))
    both = str(tmp_path / "*.jsonl")
    check(both, "split", "year")
    with pytest.raises(
        UsageError, match="no reference has a field 'splt'; there are question, split, year, note"
    ):
        check(both, "split", "splt")
    with pytest.raises(UsageError, match="no reference has a field 'splt'; there are"):
        check(both, "split,splt")
    with pytest.raises(UsageError, match="--slice_by note: no reference has a value of it"):
        check(both, "note")
    with pytest.raises(UsageError, match="--slice_by split,year: no reference has a value of it"):
        check(both, "split,year")
    pq.write_table(pa.table({"question": ["a"], "topic": ["t"]}), tmp_path / "q.parquet")
    with pytest.raises(UsageError, match="'splt'; there are question, topic"):
        check(str(tmp_path / "q.parquet"), "splt")


def test_too_many_values(tmp_path):
    rows = [{"question": "a", "number": number} for number in range(MAX_SLICES + 1)]
    check(write(tmp_path, "most.jsonl", jsonl(*rows[:-1])), "number")
    with pytest.raises(
        UsageError, match=f"more than {MAX_SLICES} values of it, such as 'number={MAX_SLICES}'"
    ):
        check(write(tmp_path, "more.jsonl", jsonl(*rows)), "number")


def test_lists_and_formats_without_fields_are_refused(tmp_path):
    path = write(tmp_path, "q.jsonl", jsonl({"question": "a", "answers": ["x"]}))
    with pytest.raises(UsageError, match=r"--slice_by answers: in record 0 of .*q\.jsonl it is a list"):
        check(path, "answers")
    path = write(tmp_path, "q.tsv", "who\t['a']\n")
    with pytest.raises(UsageError, match="is dpr_qas, which has no fields to slice by"):
        check(path, "split")
