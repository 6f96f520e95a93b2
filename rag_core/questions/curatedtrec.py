"""CuratedTREC: questions whose answers are regular expressions, kept as they are written.

Its files come as JSON lines and in DPR's layout; the first line that is not empty tells which.
"""

import itertools
from collections.abc import Iterator

from rag_core.corpus.files import read_blocks, read_lines
from rag_core.corpus.source import Source
from rag_core.questions.dpr_qas import read_dpr_qas
from rag_core.questions.jsonl import read_jsonl
from rag_core.records import LeftOut, Question, Reject
from rag_core.storage import Storage


def read_curatedtrec(storage: Storage, source: Source) -> Iterator[Question | LeftOut | Reject]:
    """The questions of a CuratedTREC file."""
    lines = read_lines(read_blocks(storage, source))
    first = next(itertools.dropwhile(lambda line: not line.strip(), lines), b"")
    read = read_jsonl if first.lstrip().startswith(b"{") else read_dpr_qas
    yield from read(
        storage, source
    )  # which makes this a generator: damage is met where it is read, not before
