"""Comma- and tab-separated tables with a header that has `question`, `claim` or `input`.

A cell of `answers` or `answer` holds one answer, or a JSON or Python list of them; `label` holds one.
An empty cell is an unknown answer.
"""

from collections.abc import Iterator

from rag_core.corpus.csv import read_table
from rag_core.corpus.files import read_blocks, read_lines
from rag_core.corpus.rows import Row, convert_rows, present_field
from rag_core.corpus.source import Source
from rag_core.questions.rows import ANSWER_FIELDS, TEXT_FIELDS, make_question, parse_answer_list
from rag_core.records import LeftOut, Question, Reject
from rag_core.storage import Storage


def read_csv(storage: Storage, source: Source) -> Iterator[Question | LeftOut | Reject]:
    """The questions of a table."""
    rows = read_table(read_lines(read_blocks(storage, source)), TEXT_FIELDS)
    return convert_rows(source, rows, _to_question)


def _to_question(row: Row, source: Source, position: int) -> Question | LeftOut:
    name = present_field(row, *ANSWER_FIELDS)
    cell = str(row[name]).strip() if name else ""
    answers = (parse_answer_list(cell) if name != "label" else None) or ([cell] if cell else None)
    return make_question(row, tuple(dict.fromkeys(answers)) if answers else None, source, position)
