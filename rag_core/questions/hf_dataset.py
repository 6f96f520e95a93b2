"""Hugging Face datasets with `question` (or `claim`, `input`) and `answers`, `answer` or `label`."""

from collections.abc import Iterator

from rag_core.corpus.hf_dataset import read_dataset_rows
from rag_core.corpus.rows import convert_rows
from rag_core.corpus.source import Source
from rag_core.questions.rows import QUESTION_FIELDS, to_question
from rag_core.records import LeftOut, Question, Reject
from rag_core.storage import Storage


def read_hf_dataset(storage: Storage, source: Source) -> Iterator[Question | LeftOut | Reject]:
    """The questions of a dataset: a folder on disk, or a name."""
    return convert_rows(source, read_dataset_rows(storage, source, QUESTION_FIELDS), to_question)
