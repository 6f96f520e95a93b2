"""Corpora: from files in any of `CORPUS_FORMATS` to documents or passages."""

from rag_core.corpus.plan import plan_sources
from rag_core.corpus.read import read_source
from rag_core.corpus.source import CORPUS_FORMATS, Source

__all__ = ["CORPUS_FORMATS", "Source", "plan_sources", "read_source"]
