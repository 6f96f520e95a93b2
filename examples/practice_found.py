"""Practice on what a trained retriever finds: passages that it ranks high and that decide nothing.

Those that `practice_retriever.py` and `practice_lookups.py` pick to lead astray are drawn by rules. A retriever
confuses what it confuses; from that it learns most, and a reader meets nothing else in the end.
Run `python -m examples.practice_found --retrievals found --questions practice/questions --passages passages
--output practice_found/questions`.
"""

import argparse
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from examples.practice_lookups import LABEL_WORDS, write_lookups
from examples.practice_retriever import dpr_row, write_dpr_rows
from examples.scores import read_questions, read_rows

Row = Mapping[str, Any]


def training_row(found: Row, positives: Sequence[Row], most: int) -> dict[str, Any]:
    """A row for the retriever in DPR's format: the hard negatives are the first others that were found.

    Args:
      found: a row of the retrievals table.
      positives: passages, the best one first.
      most: hard negatives at most.
    """
    return dpr_row(
        found,
        [_context(passage) for passage in positives],
        [_context(passage) for passage in _others(found, positives)[:most]],
    )


def astray_rows(found: Row, positives: Sequence[Row], most: int) -> Iterator[dict[str, Any]]:
    """A row for the reader, one passage each, for the first passages found that are no positives."""
    for number, passage in enumerate(_others(found, positives)[:most]):
        yield dict(found) | {
            "question_id": f"{found['question_id']}.found.{number}",
            "answers": [LABEL_WORDS.get(answer, answer) for answer in found["answers"]],
            "passages": [passage],
        }


def _others(found: Row, positives: Sequence[Row]) -> list[Row]:
    known = {passage["passage_id"] for passage in positives}
    return [passage for passage in found["passages"] if passage["passage_id"] not in known]


def _context(passage: Row) -> dict[str, str]:
    return {name: passage[name] for name in ("title", "text", "passage_id")}


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the rows for both and says how many there are."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.practice_found", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--retrievals", type=Path, required=True, help="what `rag-beam retrieve` wrote")
    parser.add_argument(
        "--questions",
        type=Path,
        required=True,
        help="folder of the questions or claims that were searched for",
    )
    parser.add_argument("--passages", type=Path, required=True, help="what `rag-beam chunk` wrote")
    parser.add_argument(
        "--hard_negatives", type=int, default=4, help="for each row of the retriever, at most"
    )
    parser.add_argument("--astray", type=int, default=2, help="rows for the reader of each question, at most")
    parser.add_argument("--seed", type=int, default=1, help="of the order of rows")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    options = parser.parse_args(argv)
    questions = read_questions(options.questions)
    passages = {row["passage_id"]: row for row in read_rows(options.passages)}
    of_document: dict[str, list[Row]] = {}
    for passage in passages.values():
        of_document.setdefault(passage["document_id"], []).append(passage)
    training: list[dict[str, Any]] = []
    astray: list[dict[str, Any]] = []
    for found in read_rows(options.retrievals):
        question = questions.get(found["question_id"])
        if question is None:
            parser.error(
                f"--retrievals {options.retrievals}: question {found['question_id']} is not in {options.questions}"
            )
        gold = [passages[passage_id] for passage_id in question["gold_passage_ids"] if passage_id in passages]
        if len(gold) < len(question["gold_passage_ids"]):
            continue  # worlds of two seeds may have a name in common, and one article of that id is rejected
        astray += astray_rows(found, gold, options.astray)
        # what cannot be decided is to be looked for in its entity's article
        positives = gold or of_document[question["gold_document_ids"][0]]
        training.append(training_row(found, positives, options.hard_negatives))
    order = random.Random(options.seed)
    order.shuffle(training)
    order.shuffle(astray)
    write_dpr_rows(training, options.output / "retriever" / "found.json")
    write_lookups(astray, options.output / "reading" / "found.parquet")
    print(f"{options.output}: {len(training):,} rows for the retriever, {len(astray):,} for the reader")


if __name__ == "__main__":
    main()
