"""From the patterns that a user names to the question files that are read."""

from collections.abc import Callable, Mapping, Sequence

from rag_core.corpus.csv import column_names
from rag_core.corpus.delimited import Dialect
from rag_core.corpus.detect import Head, has_fields, is_parquet, is_squad
from rag_core.corpus.plan import check_columns, plan_files
from rag_core.corpus.rows import BadRecord
from rag_core.errors import UsageError
from rag_core.questions.read import read_question_source
from rag_core.questions.rows import TEXT_FIELDS, parse_answer_list
from rag_core.questions.source import QUESTION_FORMATS, QuestionSource
from rag_core.records import LeaveOutReason, LeftOut
from rag_core.storage import Storage


def plan_question_sources(
    storage: Storage, patterns: Sequence[str], questions_format: str
) -> list[QuestionSource]:
    """The files that hold the questions, in the order in which they are read.

    Args:
      storage: where the files are.
      patterns: paths, globs, folders; with `hf_dataset` also names of datasets.
      questions_format: one of `QUESTION_FORMATS`, or `auto` to tell each file's format by its content
        (CuratedTREC's files read as `jsonl` or `dpr_qas`, which they are).

    Raises:
      UsageError: nothing matches; a file is empty or has no rows; `auto` fits nothing; a Parquet file
        has no column with questions.
    """
    sources = plan_files(
        storage, patterns, questions_format, QUESTION_FORMATS, _QUESTION_TESTS, "--questions_format"
    )
    for source in sources:
        if source.format == "parquet":
            check_columns(storage, source, [TEXT_FIELDS])
        _check_has_rows(storage, source)
    return sources


def _check_has_rows(storage: Storage, source: QuestionSource) -> None:
    """Raises `UsageError` for a file of nothing but a header or empty lines; reads up to the first row."""
    for record in read_question_source(storage, source):
        if not (isinstance(record, LeftOut) and record.reason is LeaveOutReason.EMPTY_LINE):
            return
    raise UsageError(f"{source.name}: the question file has no rows; expected at least one question")


def _is_kilt(head: Head) -> bool:
    return has_fields(head, "input") and (has_fields(head, "output") or has_fields(head, "id"))


def _is_fever(head: Head) -> bool:
    return has_fields(head, "id", "claim")


def _is_jsonl(head: Head) -> bool:
    return any(has_fields(head, name) for name in TEXT_FIELDS)


def _is_dpr_qas(head: Head) -> bool:
    if not head.lines:
        return False
    rows = [Dialect("\t").split(line)[0] for line in head.lines[:20]]
    return any(len(row) == 2 and _is_answer_list(row[1].strip()) for row in rows)


def _is_answer_list(cell: str) -> bool:
    try:
        return parse_answer_list(cell) is not None
    except BadRecord:  # a list, one of whose answers cannot be used
        return True


def _is_csv(head: Head) -> bool:
    if not head.is_text or not head.lines or head.text.lstrip().startswith(("{", "[")):
        return False
    dialect = Dialect("\t" if "\t" in head.lines[0] else ",")
    return column_names(dialect.split(head.lines[0])[0], TEXT_FIELDS, ())[1]


# in the order in which they are tried: the narrower first
_QUESTION_TESTS: Mapping[str, Callable[[Head], bool]] = {
    "parquet": is_parquet,
    "kilt": _is_kilt,
    "fever": _is_fever,
    "jsonl": _is_jsonl,
    "squad": is_squad,
    "csv": _is_csv,
    "dpr_qas": _is_dpr_qas,
}
