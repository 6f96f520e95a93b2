"""JSON lines with `question` (or `claim`, `input`), optional ids, and `answers`, `answer` or `label`.

NQ-open, WebQuestions and their like; any other fields are ignored.
"""

from collections.abc import Iterator

from rag_core.corpus.files import read_blocks, read_lines
from rag_core.corpus.json_lines import read_json_lines
from rag_core.corpus.rows import convert_rows
from rag_core.corpus.source import Source
from rag_core.questions.rows import to_question
from rag_core.records import LeftOut, Question, Reject
from rag_core.storage import Storage


def read_jsonl(storage: Storage, source: Source) -> Iterator[Question | LeftOut | Reject]:
    """The questions of a JSON lines file."""
    rows = read_json_lines(read_lines(read_blocks(storage, source)))
    return convert_rows(source, rows, to_question)
