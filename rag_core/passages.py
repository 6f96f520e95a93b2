"""Documents to passages: disjoint runs of whitespace-separated words, never across documents."""

import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import Literal

from rag_core.records import Document, Passage

# a few thousand characters, and on to the end of the word they end in
_PIECE = re.compile(r".{1,4096}+\S*+", re.DOTALL)


def split_document(
    document: Document,
    *,
    passage_words: int = 100,
    min_words: int = 1,
    last_passage: Literal["keep", "wrap"] = "keep",
) -> Iterator[Passage]:
    """Splits a document; the n-th passage gets the id `{document_id}#{n}`.

    Passages are disjoint and cover the document; their words are joined by single spaces. Memory beyond
    the document is bounded by one passage and a few thousand characters.

    Args:
      document: its title is carried beside every passage.
      passage_words: words a passage; 0 keeps the document whole, its text unchanged.
      min_words: passages of fewer words are not given out; the others keep their numbers. Counted before
        the last one is filled up.
      last_passage: `wrap` fills the last passage up with words from the document's start, as DPR's own
        split did; a document shorter than one passage is repeated until the passage is full.
    """
    if passage_words == 0:
        if min_words <= 1 or sum(1 for _ in islice(_words(document.text), min_words)) == min_words:
            yield _passage(document, 0, document.text)
        return
    words = _words(document.text)
    number = 0
    while passage := list(islice(words, passage_words)):
        if len(passage) >= min_words:
            if last_passage == "wrap":
                while len(passage) < passage_words:
                    passage.extend(islice(_words(document.text), passage_words - len(passage)))
            yield _passage(document, number, " ".join(passage))
        number += 1


def _words(text: str) -> Iterator[str]:
    """The words one after the other, split a piece at a time: no Python runs between two words."""
    return chain.from_iterable(match[0].split() for match in _PIECE.finditer(text))


def _passage(document: Document, number: int, text: str) -> Passage:
    passage_id = f"{document.document_id}#{number}"
    return Passage(passage_id, document.document_id, number, document.title, text, document.position)
