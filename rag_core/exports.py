"""Formats that other evaluation tools read, row by row from our retrievals and answers tables.

Rows are mappings with the tables' columns (`pyarrow.RecordBatch.to_pylist` gives them); nothing is
held but the row at hand.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rag_core.errors import UsageError
from rag_core.metrics.patterns import AnswerPatterns
from rag_core.metrics.retrieval import AnswerFinder, AnswerRegexes, AnswerStrings

Row = Mapping[str, Any]


def dpr_retrieval_json(rows: Iterable[Row], *, regex: bool = False) -> Iterator[str]:
    """DPR's retrieval results, which FiD, Atlas and others read: one JSON array, in pieces to be joined.

    An item holds `question`, `answers` and `ctxs` of `id`, `title`, `text`, `score` (a string, as DPR
    writes it) and `has_answer` by DPR's rule.

    Args:
      rows: of the retrievals or the answers table.
      regex: gold answers are regular expressions (CuratedTREC).

    Raises:
      UsageError: a passage without its text (answers written with --no_passage_texts).
    """
    patterns = AnswerPatterns()
    yield "["
    for number, row in enumerate(rows):
        answers = list(row["answers"] or ()) if "answers" in row else []
        finder: AnswerFinder = AnswerRegexes(answers, patterns) if regex else AnswerStrings(answers)
        item = {
            "question": row["question"],
            "answers": answers,
            "ctxs": [
                {
                    "id": passage["passage_id"],
                    "title": passage["title"],
                    "text": (text := _text(row, passage)),
                    "score": str(passage["score"]),
                    "has_answer": finder.found_in(text),
                }
                for passage in row["passages"]
            ],
        }
        yield (",\n" if number else "\n") + json.dumps(item, ensure_ascii=False)
    yield "\n]\n"


def kilt_prediction_lines(rows: Iterable[Row]) -> Iterator[str]:
    """KILT predictions, one JSON object a line: `id`, `input` and one `output`.

    The output holds the `answer` (an empty one for a row of the retrievals table) and as `provenance`
    the documents, best first, each once: KILT's recall would count a page that is listed again as a
    wrong one. `wikipedia_id` is the `document_id`, right where the passages come from KILT's
    knowledge source.
    """
    for row in rows:
        documents: dict[str, Row] = {}
        for passage in row["passages"]:
            documents.setdefault(passage["document_id"], passage)
        provenance = [
            {"wikipedia_id": document_id, "title": passage["title"], "score": passage["score"]}
            for document_id, passage in documents.items()
        ]
        output = [{"answer": row.get("answer", ""), "provenance": provenance}]
        yield _json_line({"id": row["question_id"], "input": row["question"], "output": output})


def trec_run_lines(rows: Iterable[Row], *, tag: str = "rag-beam") -> Iterator[str]:
    """A TREC run: `question_id Q0 passage_id rank score tag`, ranks from 1.

    trec_eval orders by score, not by rank, and breaks ties its own way.

    Raises:
      UsageError: an id or the tag is empty or has white space in it, which the format cannot hold.
    """
    _check_run_field("tag", tag)
    for row in rows:
        _check_run_field("question_id", row["question_id"])
        for rank, passage in enumerate(row["passages"], start=1):
            _check_run_field("passage_id", passage["passage_id"])
            yield f"{row['question_id']} Q0 {passage['passage_id']} {rank} {passage['score']} {tag}\n"


def _text(row: Row, passage: Row) -> str:
    text = passage["text"]
    if text is None:
        raise UsageError(
            f"Question {row['question_id']!r}: passage {passage['passage_id']!r} has no text, and DPR's "
            f"retrieval JSON needs it; export the retrievals, or generate without --no_passage_texts."
        )
    return str(text)


def _json_line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _check_run_field(name: str, value: str) -> None:
    if len(value.split()) != 1 or value != value.strip():
        raise UsageError(f"A TREC run cannot hold the {name} {value!r}: it must be without white space.")
