"""Writes a small file, plans it and reads it, as every test of a reader does."""

from pathlib import Path

from rag_core.corpus import Source, plan_sources, read_source
from rag_core.records import Document, LeftOut, Passage, Reject
from rag_core.storage import LocalStorage

STORAGE = LocalStorage()


def write(folder: Path, name: str, content: str | bytes) -> str:
    """Writes a file and returns its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def read(path: str, input_format: str = "auto") -> list[Document | Passage | LeftOut | Reject]:
    """All records of a path, checked to be numbered without gaps in each source."""
    return [record for source in plan_sources(STORAGE, [path], input_format) for record in read_one(source)]


def read_one(source: Source) -> list[Document | Passage | LeftOut | Reject]:
    """All records of a source, checked to be numbered without gaps."""
    records = list(read_source(STORAGE, source))
    assert [record.position for record in records] == [source.first_record + n for n in range(len(records))]
    return records


def reasons(records) -> list[str]:
    """For each record, its reason, or the name of its type where it was accepted."""
    return [getattr(record, "reason", type(record).__name__) for record in records]
