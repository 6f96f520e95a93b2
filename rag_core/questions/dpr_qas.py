"""DPR's question files: a question, a tab, and a Python or JSON list of its answers; no header."""

from collections.abc import Iterator

from rag_core.corpus.delimited import Dialect, read_rows
from rag_core.corpus.files import read_blocks, read_lines
from rag_core.corpus.rows import BadRecord, Row, convert_rows
from rag_core.corpus.source import Source
from rag_core.questions.rows import make_question, parse_answer_list
from rag_core.records import LeftOut, Question, Reject, RejectReason
from rag_core.storage import Storage

_COLUMNS = ("question", "answers")


def read_dpr_qas(storage: Storage, source: Source) -> Iterator[Question | LeftOut | Reject]:
    """The questions of a DPR question file."""
    rows = read_rows(read_lines(read_blocks(storage, source)), Dialect("\t"), columns=len(_COLUMNS))
    named = (dict(zip(_COLUMNS, row, strict=True)) if isinstance(row, list) else row for row in rows)
    return convert_rows(source, named, _to_question)


def _to_question(row: Row, source: Source, position: int) -> Question | LeftOut:
    answers = parse_answer_list(str(row["answers"]).strip())
    if answers is None:
        raise BadRecord(RejectReason.BAD_FIELD, "column 2: expected a list of strings such as [\"a\", 'b']")
    return make_question(row, tuple(dict.fromkeys(answers)), source, position)
