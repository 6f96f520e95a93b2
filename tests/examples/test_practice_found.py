"""Rows to practise on, of passages that a retriever ranked high and that decide nothing."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from examples.practice_found import astray_rows, main, training_row
from schemas.passages import SCHEMA as PASSAGES
from schemas.retrievals import SCHEMA as RETRIEVALS


def passage(passage_id):
    return {
        "passage_id": passage_id,
        "document_id": passage_id.partition("#")[0],
        "title": "Ruratia",
        "text": f"Text of {passage_id}.",
        "score": 1.0,
    }


A0, B1, A2, C0, A1 = map(passage, ("a#0", "b#1", "a#2", "c#0", "a#1"))
CLAIM = {
    "question_id": "c1",
    "question": "The capital of Ruratia is Oln.",
    "answers": ["REFUTES"],
    "passages": [A0, B1, A2, C0],
}
QUESTION = CLAIM | {"question_id": "q1", "question": "What is the capital of Ruratia?", "answers": ["Velm"]}
OPEN = CLAIM | {"question_id": "c2", "answers": ["NOT ENOUGH INFO"]}


def test_the_reader_gets_the_first_passages_that_decide_nothing():
    rows = list(astray_rows(CLAIM, [B1], most=2))
    assert [row["passages"] for row in rows] == [[A0], [A2]]
    assert [row["question_id"] for row in rows] == ["c1.found.0", "c1.found.1"]
    assert {row["question"] for row in rows} == {CLAIM["question"]}
    assert len(list(astray_rows(CLAIM, [A0, B1, A2], most=3))) == 1


def test_the_target_of_a_claim_is_the_word_of_its_label_and_of_a_question_its_answer():
    assert [row["answers"] for row in astray_rows(CLAIM, [], most=1)] == [["no"]]
    assert [row["answers"] for row in astray_rows(QUESTION, [], most=1)] == [["Velm"]]


def test_the_retriever_gets_them_as_hard_negatives_and_positives_that_were_not_found_too():
    row = training_row(QUESTION, [A1, B1], most=2)
    assert [context["text"] for context in row["positive_ctxs"]] == ["Text of a#1.", "Text of b#1."]
    assert row["hard_negative_ctxs"] == [
        {"title": "Ruratia", "text": f"Text of {name}.", "passage_id": name} for name in ("a#0", "a#2")
    ]


@pytest.fixture
def arguments(tmp_path):
    """Of a run over two claims and a question, with the file of questions among them."""
    found, questions, passages = (tmp_path / name for name in ("found", "questions", "passages"))
    for folder, rows, schema in (
        (found, [CLAIM, QUESTION, OPEN], RETRIEVALS),
        (
            passages,
            [one | {"passage_number": int(one["passage_id"][-1])} for one in (A0, A1, A2, B1, C0)],
            PASSAGES,
        ),
    ):
        folder.mkdir()
        names = set(schema.names)
        rows = [{key: value for key, value in row.items() if key in names} for row in rows]
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "part-00000-of-00001.parquet")
    questions.mkdir()
    lines = [
        {"question_id": "c1", "gold_passage_ids": ["b#1"], "gold_document_ids": ["b"]},
        {"question_id": "c2", "gold_passage_ids": [], "gold_document_ids": ["a"]},
        {"question_id": "q1", "gold_passage_ids": ["a#1"], "gold_document_ids": ["a"]},
    ]
    (questions / "1.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return {
        "--retrievals": found,
        "--questions": questions,
        "--passages": passages,
        "--output": tmp_path / "out",
    }


def run(arguments):
    main([str(word) for pair in arguments.items() for word in pair])


def test_the_command_writes_rows_for_both(arguments, capsys):
    run(arguments)
    output = arguments["--output"]
    training = {
        row["question_id"]: tuple(
            [context["passage_id"] for context in row[kind]]
            for kind in ("positive_ctxs", "hard_negative_ctxs")
        )
        for row in json.loads((output / "retriever" / "found.json").read_text(encoding="utf-8"))
    }
    assert training == {
        "c1": (["b#1"], ["a#0", "a#2", "c#0"]),
        # what cannot be decided is to be looked for in the article
        "c2": (["a#0", "a#1", "a#2"], ["b#1", "c#0"]),
        "q1": (["a#1"], ["a#0", "b#1", "a#2", "c#0"]),
    }
    reading = pq.read_table(output / "reading")
    assert reading.schema.equals(RETRIEVALS)
    assert {(row["question_id"], row["passages"][0]["passage_id"]) for row in reading.to_pylist()} == {
        ("c1.found.0", "a#0"),
        ("c1.found.1", "a#2"),
        ("c2.found.0", "a#0"),
        ("c2.found.1", "b#1"),
        ("q1.found.0", "a#0"),
        ("q1.found.1", "b#1"),
    }
    assert capsys.readouterr().out == f"{output}: 3 rows for the retriever, 6 for the reader\n"


def test_a_question_about_an_article_that_was_rejected_is_left_out(arguments, capsys):
    table = arguments["--passages"] / "part-00000-of-00001.parquet"
    rows = [row for row in pq.read_table(table).to_pylist() if row["passage_id"] != "b#1"]
    pq.write_table(pa.Table.from_pylist(rows, schema=PASSAGES), table)
    run(arguments)
    assert capsys.readouterr().out == f"{arguments['--output']}: 2 rows for the retriever, 4 for the reader\n"


def test_a_question_that_the_folder_has_not_is_an_error(arguments, capsys):
    (arguments["--questions"] / "1.jsonl").write_text(
        json.dumps({"question_id": "c1", "gold_passage_ids": ["b#1"]}), encoding="utf-8"
    )
    with pytest.raises(SystemExit):
        run(arguments)
    message = f"--retrievals {arguments['--retrievals']}: question q1 is not in {arguments['--questions']}"
    assert message in capsys.readouterr().err
