"""Word tokens as DPR's answer matching splits them."""

import unicodedata

import regex

# a run of letters, digits and combining marks, or any other single visible character
_TOKEN = regex.compile(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]")


def word_tokens(text: str) -> list[str]:
    """Lower-cased words and single punctuation marks, after NFD normalisation.

    NFD splits an accented letter into letter and mark, so composed and decomposed spellings of one
    word agree, and `café` stays different from `cafe`. A token never holds white space or control
    characters.
    """
    return joined_tokens(text).split()


def joined_tokens(text: str) -> str:
    """The tokens of `word_tokens` with one space between them: quicker where only that is needed."""
    return " ".join(_TOKEN.findall(unicodedata.normalize("NFD", text))).lower()
