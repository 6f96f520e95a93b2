"""Parquet with `question` (or `claim`, `input`), optional ids, and `answers`, `answer` or `label`."""

from collections.abc import Iterator

from rag_core.corpus.parquet import read_parquet_rows
from rag_core.corpus.rows import convert_rows
from rag_core.corpus.source import Source
from rag_core.questions.rows import QUESTION_FIELDS, to_question
from rag_core.records import LeftOut, Question, Reject
from rag_core.storage import Storage


def read_parquet(storage: Storage, source: Source) -> Iterator[Question | LeftOut | Reject]:
    """The questions of a Parquet file."""
    return convert_rows(source, read_parquet_rows(storage, source, QUESTION_FIELDS), to_question)
