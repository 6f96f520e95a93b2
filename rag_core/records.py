"""The records that readers yield, and what becomes of records that are not accepted.

The ledger, in records of the input: read = accepted + left out + rejected. Left out is by design
(a redirect, a page of another namespace, a document without text); rejected is a bad record.
"""

from dataclasses import dataclass
from enum import StrEnum

EXCERPT_CHARACTERS = 200


class RejectReason(StrEnum):
    """Codes in the `reason` column of the rejects table."""

    BAD_ENCODING = "bad_encoding"
    BAD_FIELD = "bad_field"
    BAD_JSON = "bad_json"
    BAD_ROW = "bad_row"
    DUPLICATE_ID = "duplicate_id"
    NO_PASSAGES = "no_passages"
    NOT_FINITE = "not_finite"
    TRUNCATED_FILE = "truncated_file"
    UNKNOWN_ID = "unknown_id"


class LeaveOutReason(StrEnum):
    """Keys of `left_out` in a manifest's counts."""

    ALREADY_GONE = "already_gone"
    EMPTY_LINE = "empty_line"
    EMPTY_DOCUMENT = "empty_document"
    EMPTY_QUESTION = "empty_question"
    NO_ANSWER = "no_answer"
    NO_POSITIVE = "no_positive"
    REDIRECT = "redirect"
    OTHER_NAMESPACE = "other_namespace"


@dataclass(frozen=True, slots=True)
class Document:
    """A source unit: one article, paragraph or file.

    Attributes:
      document_id: the source's id, else `{file stem}:{0-based record}`.
      title: may be empty.
      text: plain text, not empty.
      position: 0-based record number in its source (page, line or row).
    """

    document_id: str
    title: str
    text: str
    position: int


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved unit; `position` is the 0-based number of the record it came from."""

    passage_id: str
    document_id: str
    passage_number: int
    title: str
    text: str
    position: int


@dataclass(frozen=True, slots=True)
class Question:
    """A question or claim.

    Attributes:
      answers: gold answers or the gold label, None where unknown.
      evidence: sets of gold document ids, each of which suffices; empty where unknown.
    """

    question_id: str
    question: str
    answers: tuple[str, ...] | None
    position: int
    evidence: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A record left out by design."""

    reason: LeaveOutReason
    position: int


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that could not be used; becomes a row of the rejects table.

    Attributes:
      position: 0-based row, page or, where no record could be told apart, byte.
      message: where, what was expected, what was found, what to do.
      excerpt: the start of the record; cut to 200 characters when written.
    """

    source: str
    position: int
    reason: RejectReason
    message: str
    record_id: str | None = None
    excerpt: str = ""
