"""Each format as its maker writes it, and what bad rows get."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rag_core.questions import QUESTION_FORMATS
from rag_core.records import Question
from tests.rag_core.corpus.reading import reasons, write
from tests.rag_core.questions.reading import decided, read


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_jsonl(tmp_path):
    rows = [
        {"question": " who ", "answer": ["a", "b", "a"]},
        {"question_id": "q7", "question": "what", "answers": "one", "answer": ["ignored"]},
        {"id": 3, "input": "which", "label": "L"},
        {"question": "unknown", "answers": None},
        {"question": "hf", "answers": {"text": ["x", "x"], "answer_start": [1, 9]}},
        {"question": "none", "answers": []},
    ]
    path = write(tmp_path, "NQ-open.dev.jsonl", jsonl(*rows))
    assert decided(path) == "jsonl"
    assert read(path) == [
        Question("NQ-open:0", "who", ("a", "b"), 0),
        Question("q7", "what", ("one",), 1),
        Question("3", "which", ("L",), 2),
        Question("NQ-open:3", "unknown", None, 3),
        Question("NQ-open:4", "hf", ("x",), 4),
        Question("NQ-open:5", "none", (), 5),
    ]


def test_bad_lines(tmp_path):
    lines = [
        b'{"question": "fine"}',
        b"",
        b'{"question": " "}',
        b'{"answer": ["a"]}',
        b'{"question": ["a"]}',
        b'{"question": "a", "answers": [1]}',
        b'{"question": "a", "answers": 1}',
        b"[1]",
        b'{"question": "\xff"}',
    ]
    assert reasons(read(write(tmp_path, "q.jsonl", b"\n".join(lines)))) == [
        "Question",
        "empty_line",
        "empty_question",
        "bad_field",
        "bad_field",
        "bad_field",
        "bad_field",
        "bad_json",
        "bad_encoding",
    ]


def test_dpr_qas(tmp_path):
    lines = [
        "who got it\t['Wilhelm Röntgen']",
        "two\t['a', \"b's\"]",
        'csv quoted\t"[""Jennifer O\'Neill"", \'c\']"',
        'json\t["a", "b"]',
        "no list\tParis",
        "numbers\t[1, 2]",
        "one column",
        "",
        "escape\t['\\ud800']",
        "code\t[__import__('os')]",
    ]
    path = write(tmp_path, "nq-test.qa.tsv", "\n".join(lines))
    assert decided(path) == "dpr_qas"
    records = read(path)
    assert [record.answers for record in records[:4]] == [
        ("Wilhelm Röntgen",),
        ("a", "b's"),
        ("Jennifer O'Neill", "c"),
        ("a", "b"),
    ]
    assert records[0].question_id == "nq-test:0"
    assert reasons(records[4:]) == [
        "bad_field",
        "bad_field",
        "bad_row",
        "empty_line",
        "bad_encoding",
        "bad_field",
    ]


def test_curatedtrec_keeps_regular_expressions_as_they_are(tmp_path):
    pattern = r"20\s?,?\s?(32|40)0\s?-?\s?f(ee|oo)t|6,194-meter"
    as_json = write(tmp_path, "trec.jsonl", jsonl({"question": "How tall?", "answer": [pattern]}))
    as_dpr = write(tmp_path, "trec.tsv", f"How tall?\t{[pattern]}\n")
    for path in (as_json, as_dpr):
        assert read(path, "curatedtrec") == [Question("trec:0", "How tall?", (pattern,), 0)]
        assert read(path, "auto") == read(path, "curatedtrec")


def test_kilt(tmp_path):
    provenance = [{"wikipedia_id": "1", "title": "T"}]
    rows = [
        {
            "id": "a",
            "input": "q",
            "output": [{"answer": "x", "provenance": provenance}, {"answer": "y"}, {"answer": "x"}],
        },
        {"id": "b", "input": "q", "output": [{"provenance": provenance}]},
        {"id": "c", "input": "q"},
        {"id": "d", "input": "q", "output": "x"},
        {"id": "e", "input": "q", "output": [{"answer": 1}]},
    ]
    path = write(tmp_path, "nq-dev-kilt.jsonl", jsonl(*rows))
    assert decided(path) == "kilt"
    records = read(path)
    assert [record.answers for record in records[:3]] == [("x", "y"), None, None]
    assert [record.question_id for record in records[:3]] == ["a", "b", "c"]
    assert reasons(records[3:]) == ["bad_field", "bad_field"]


def test_squad(tmp_path):
    def question(text, *answers, **more):
        return {"question": text, "answers": [{"text": a, "answer_start": 0} for a in answers], **more}

    first = {
        "context": "c",
        "qas": [question("q0", "x", "y", "x"), question("q1", id="5733be28", is_impossible=True)],
    }
    second = {
        "context": "d",
        "qas": [question("q2", "z"), {"question": "q3", "answers": "z"}, 7, question(" ", "z")],
    }
    articles = [{"title": "A", "paragraphs": [first]}, {"title": "B", "paragraphs": [second]}]
    path = write(tmp_path, "train-v1.1.json.gz", gzip.compress(json.dumps({"data": articles}).encode()))
    assert decided(path) == "squad"
    records = read(path)
    assert records[:3] == [
        Question("train-v1:0", "q0", ("x", "y"), 0),
        Question("5733be28", "q1", (), 1),
        Question("train-v1:2", "q2", ("z",), 2),
    ]
    assert reasons(records[3:]) == ["bad_field", "bad_field", "empty_question"]


def test_fever(tmp_path):
    rows = [
        {"id": 91198, "label": "NOT ENOUGH INFO", "claim": "A claim.", "evidence": [[[1, None, None, None]]]},
        {"id": 5, "claim": "Blind."},
    ]
    path = write(tmp_path, "paper_dev.jsonl", jsonl(*rows))
    assert decided(path) == "fever"
    assert read(path) == [
        Question("91198", "A claim.", ("NOT ENOUGH INFO",), 0),
        Question("5", "Blind.", None, 1),
    ]


def test_csv(tmp_path):
    content = 'id,question,answers\nx,"who, then","[""a"", ""b""]"\n,what,one\ny,which,\nz,too,many,columns\n'
    path = write(tmp_path, "q.csv", content)
    assert decided(path) == "csv"
    records = read(path)
    assert records[:3] == [
        Question("x", "who, then", ("a", "b"), 0),
        Question("q:1", "what", ("one",), 1),
        Question("y", "which", None, 2),
    ]
    assert reasons(records[3:]) == ["bad_row"]


def test_csv_of_claims(tmp_path):
    path = write(tmp_path, "val.csv", ',index,claim,label,sentence\n0,7,A claim.,SUPPORTS,"x, y"\n')
    assert decided(path) == "csv"
    assert read(path) == [Question("val:0", "A claim.", ("SUPPORTS",), 0)]


def test_parquet(tmp_path):
    table = pa.table(
        {
            "question_id": ["a", "b"],
            "question": ["q", "r"],
            "answers": [["x"], None],
            "vector": [[1.0], [2.0]],
        }
    )
    path = str(tmp_path / "q.parquet")
    pq.write_table(table, path)
    assert decided(path) == "parquet"
    assert read(path) == [Question("a", "q", ("x",), 0), Question("b", "r", None, 1)]


def test_hf_dataset(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"question": ["q"], "answers": [["x", "y"]]}).save_to_disk(
        str(tmp_path / "set")
    )
    assert decided(str(tmp_path / "set")) == "hf_dataset"
    assert read(str(tmp_path / "set")) == [Question("set:0", "q", ("x", "y"), 0)]


def test_a_cut_file_keeps_what_it_holds(tmp_path):
    content = gzip.compress(jsonl(*[{"question": f"q{n * n % 9973}"} for n in range(20_000)]).encode())
    records = read(write(tmp_path, "q.jsonl.gz", content[: len(content) // 2]))
    assert reasons(records) == ["Question"] * (len(records) - 1) + ["truncated_file"]
    assert 5_000 < len(records) < 15_000


def test_every_format_has_a_reader():
    from rag_core.questions.read import _READERS

    assert set(_READERS) == set(QUESTION_FORMATS)
