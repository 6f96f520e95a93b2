"""FEVER claims: JSON lines with `id`, `claim` and, but for the blind test set, `label`."""

from collections.abc import Iterator

from rag_core.corpus.files import read_blocks, read_lines
from rag_core.corpus.json_lines import read_json_lines
from rag_core.corpus.rows import Row, convert_rows
from rag_core.corpus.source import Source
from rag_core.questions.rows import make_question, to_answers
from rag_core.records import LeftOut, Question, Reject
from rag_core.storage import Storage


def read_fever(storage: Storage, source: Source) -> Iterator[Question | LeftOut | Reject]:
    """The claims of a FEVER file, the label as the one answer."""
    rows = read_json_lines(read_lines(read_blocks(storage, source)))
    return convert_rows(source, rows, _to_question)


def _to_question(row: Row, source: Source, position: int) -> Question | LeftOut:
    return make_question(row, to_answers(row.get("label"), "label"), source, position)
