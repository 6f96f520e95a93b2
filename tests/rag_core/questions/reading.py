"""Plans and reads a file of questions, as every test of a reader does."""

from rag_core.questions import plan_question_sources, read_question_source
from rag_core.records import LeftOut, Question, Reject
from rag_core.storage import LocalStorage

STORAGE = LocalStorage()


def read(path: str, questions_format: str = "auto") -> list[Question | LeftOut | Reject]:
    """All records of a path, checked to be numbered without gaps."""
    (source,) = plan_question_sources(STORAGE, [path], questions_format)
    records = list(read_question_source(STORAGE, source))
    assert [record.position for record in records] == list(range(len(records)))
    return records


def decided(path: str) -> str:
    """The format that `auto` decides for."""
    (source,) = plan_question_sources(STORAGE, [path], "auto")
    return source.format
