"""KILT tasks: JSON lines with `id`, `input` and `output`, a list of answers with their provenance."""

from collections.abc import Iterator

from rag_core.corpus.files import read_blocks, read_lines
from rag_core.corpus.json_lines import read_json_lines
from rag_core.corpus.rows import BadRecord, Row, convert_rows
from rag_core.corpus.source import Source
from rag_core.questions.rows import make_question
from rag_core.records import LeftOut, Question, Reject, RejectReason
from rag_core.storage import Storage


def read_kilt(storage: Storage, source: Source) -> Iterator[Question | LeftOut | Reject]:
    """The questions of a KILT task; entries of `output` that are provenance alone give no answer."""
    rows = read_json_lines(read_lines(read_blocks(storage, source)))
    return convert_rows(source, rows, _to_question)


def _to_question(row: Row, source: Source, position: int) -> Question | LeftOut:
    output = row.get("output")
    if output is None:  # the test sets keep their answers back
        return make_question(row, None, source, position)
    if not isinstance(output, list) or not all(isinstance(entry, dict) for entry in output):
        raise BadRecord(RejectReason.BAD_FIELD, "field 'output': expected a list of objects with 'answer'")
    answers = [entry["answer"] for entry in output if entry.get("answer") is not None]
    if not all(isinstance(answer, str) for answer in answers):
        raise BadRecord(RejectReason.BAD_FIELD, "field 'output': expected every 'answer' to be a string")
    evidence = tuple(dict.fromkeys(filter(None, map(_documents, output))))
    return make_question(row, tuple(dict.fromkeys(answers)) or None, source, position, evidence)


def _documents(entry: dict[str, object]) -> tuple[str, ...]:
    """The Wikipedia pages that an entry of `output` gives as its provenance, each once."""
    provenance = entry.get("provenance")
    if not isinstance(provenance, list):
        return ()
    pages = [source.get("wikipedia_id") for source in provenance if isinstance(source, dict)]
    return tuple(dict.fromkeys(str(page) for page in pages if page is not None))
