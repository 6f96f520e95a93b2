import json

import pytest

from rag_core.errors import UsageError
from rag_core.exports import dpr_retrieval_json, kilt_prediction_lines, trec_run_lines


def passage(passage_id, document_id, text, score):
    return {
        "passage_id": passage_id,
        "document_id": document_id,
        "title": f"Title {document_id}",
        "text": text,
        "score": score,
    }


def rows():
    return [
        {
            "question_id": "q1",
            "question": 'who said "hé"?',
            "answers": ["Zoé"],
            "answer": "Zoé",
            "passages": [
                passage("7#0", "7", "nobody", 81.5),
                passage("7#3", "7", "it was zoé.", 80.25),
                passage("9#0", "9", "Zoélie", -1.0),
            ],
        },
        {"question_id": "q2", "question": "why?", "answers": None, "passages": []},
    ]


def test_dpr_json_round_trip():
    first, second = json.loads("".join(dpr_retrieval_json(rows())))
    assert first["question"] == 'who said "hé"?'
    assert first["answers"] == ["Zoé"]
    assert [ctx["has_answer"] for ctx in first["ctxs"]] == [False, True, False]
    assert first["ctxs"][0] == {
        "id": "7#0",
        "title": "Title 7",
        "text": "nobody",
        "score": "81.5",
        "has_answer": False,
    }
    assert second == {"question": "why?", "answers": [], "ctxs": []}
    assert json.loads("".join(dpr_retrieval_json([]))) == []


def test_dpr_json_with_patterns():
    row = {**rows()[0], "answers": ["zo(e|é)l", "("]}
    (item,) = json.loads("".join(dpr_retrieval_json([row], regex=True)))
    assert [ctx["has_answer"] for ctx in item["ctxs"]] == [False, False, True]


def test_dpr_json_needs_texts():
    row = {**rows()[0], "passages": [passage("7#0", "7", None, 1.0)]}
    with pytest.raises(UsageError, match=r"'q1': passage '7#0' has no text.*no_passage_texts"):
        list(dpr_retrieval_json([row]))


def test_writers_stream():
    def endless():
        while True:
            yield rows()[0]

    pieces = dpr_retrieval_json(endless())
    assert next(pieces) == "["
    assert next(pieces).startswith("\n{")
    assert next(pieces).startswith(",\n{")
    assert next(kilt_prediction_lines(endless())).endswith("}\n")
    assert next(trec_run_lines(endless())).startswith("q1 ")


def test_kilt_lists_each_document_once_in_order():
    first, second = (json.loads(line) for line in kilt_prediction_lines(rows()))
    assert first == {
        "id": "q1",
        "input": 'who said "hé"?',
        "output": [
            {
                "answer": "Zoé",
                "provenance": [
                    {"wikipedia_id": "7", "title": "Title 7", "score": 81.5},
                    {"wikipedia_id": "9", "title": "Title 9", "score": -1.0},
                ],
            }
        ],
    }
    assert second["output"] == [{"answer": "", "provenance": []}]


def test_trec_run():
    assert list(trec_run_lines(rows(), tag="ours")) == [
        "q1 Q0 7#0 1 81.5 ours\n",
        "q1 Q0 7#3 2 80.25 ours\n",
        "q1 Q0 9#0 3 -1.0 ours\n",
    ]


@pytest.mark.parametrize("field", ["question_id", "passage_id", "tag"])
@pytest.mark.parametrize("value", ["a b", "", "a\n"])
def test_trec_run_refuses_white_space(field, value):
    row, tag = rows()[0], "ours"
    if field == "question_id":
        row["question_id"] = value
    elif field == "passage_id":
        row["passages"][0]["passage_id"] = value
    else:
        tag = value
    with pytest.raises(UsageError, match=field):
        list(trec_run_lines([row], tag=tag))
