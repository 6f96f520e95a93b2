"""Questions and claims: from files in any of `QUESTION_FORMATS` to `Question` records."""

from rag_core.questions.plan import plan_question_sources
from rag_core.questions.read import read_question_source
from rag_core.questions.slices import MAX_SLICES, check_slices, parse_ways, read_slices
from rag_core.questions.source import QUESTION_FORMATS, QuestionSource

__all__ = [
    "MAX_SLICES",
    "QUESTION_FORMATS",
    "QuestionSource",
    "check_slices",
    "parse_ways",
    "plan_question_sources",
    "read_question_source",
    "read_slices",
]
