"""The generator's input, `title / text // question` as token ids: truncated is the passage, never the question."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class PassageText:
    """What the generator reads of a passage; the title may be empty."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class ContextFormat:
    """The strings between the parts, as a Hugging Face RAG checkpoint's config names them."""

    prefix: str = ""
    title_sep: str = " / "
    doc_sep: str = " // "


class QuestionTooLongError(ValueError):
    """The question alone is longer than the generator can read."""


class ContextTokenizer:
    """Joins passages and a question, and tokenises them for the generator.

    Where nothing is truncated the string is exactly the one that `transformers`' RagRetriever builds
    (quotes around a title removed, each pair of spaces made one). Where the tokens exceed the maximum,
    the passage's last tokens are dropped: right truncation of the whole would cut the question off.

    Attributes:
      format: the strings between the parts.
      limited: whether there are questions that are too long to be read.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        context_format: ContextFormat,
        max_tokens: int,
        max_positions: int | None = None,
    ):
        """Stores the settings.

        Args:
          tokenizer: a fast tokenizer (one that gives character offsets).
          max_tokens: length of a context, special tokens included. A question that leaves no room for its
            passage is still kept whole: the context is then longer.
          max_positions: how many tokens the encoder can read, None where it has no limit.
        """
        self._tokenizer = tokenizer
        self.format = context_format
        self._max_tokens = max_tokens if max_positions is None else min(max_tokens, max_positions)
        self._max_positions = max_positions
        self.limited = max_positions is not None

    def __call__(self, question: str, passages: Sequence[PassageText]) -> list[list[int]]:
        """Token ids of one context a passage; without passages one context, the question alone.

        Raises:
          QuestionTooLongError: the question alone exceeds what the encoder can read.
        """
        return self.batch([(question, passages)])[0]

    def batch(self, asked: Sequence[tuple[str, Sequence[PassageText]]]) -> list[list[list[int]]]:
        """The same for several questions: tokenised together, which a fast tokenizer does on all cores.

        Raises:
          QuestionTooLongError: as for one question.
        """
        texts = [self._texts(question, passages) for question, passages in asked]
        flat = [text for of_question in texts for text in of_question]
        tokens = iter(self._tokenizer(flat, truncation=False, verbose=False)["input_ids"] if flat else ())
        return [
            [self._truncate(next(tokens), text, question, bool(passages)) for text in of_question]
            for (question, passages), of_question in zip(asked, texts, strict=True)
        ]

    def _texts(self, question: str, passages: Sequence[PassageText]) -> list[str]:
        """A context for each passage; closed book the question alone."""
        if not passages:
            return [self.format.prefix + question]
        return [self._join(passage, question) for passage in passages]

    def _join(self, passage: PassageText, question: str) -> str:
        title = passage.title.removeprefix('"').removesuffix('"')
        form = self.format
        return f"{form.prefix}{title}{form.title_sep}{passage.text}{form.doc_sep}{question}".replace(
            "  ", " "
        )

    def _truncate(self, ids: list[int], text: str, question: str, has_passage: bool) -> list[int]:
        """Drops as many tokens as are too many, from the end of the passage, before the question."""
        excess = len(ids) - self._max_tokens
        if excess <= 0:
            return ids
        kept = ids
        if has_passage:
            dropped = set(self._passage_tokens(text, question)[-excess:])
            kept = [token for place, token in enumerate(ids) if place not in dropped]
        if self._max_positions is not None and len(kept) > self._max_positions:
            raise QuestionTooLongError(
                f"the question takes {len(kept)} tokens, the generator reads at most {self._max_positions}; "
                "shorten it"
            )
        return kept

    def _passage_tokens(self, text: str, question: str) -> list[int]:
        """Which tokens of a context are title, separator and text of its passage."""
        encoding = self._tokenizer(
            text,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            truncation=False,
            verbose=False,
        )
        tail = (self.format.doc_sep + question).lstrip(" ").replace("  ", " ")
        begin, end = len(self.format.prefix.replace("  ", " ")), len(text.removesuffix(tail).rstrip(" "))
        places = zip(encoding["offset_mapping"], encoding["special_tokens_mask"], strict=True)
        return [
            place
            for place, ((start, stop), special) in enumerate(places)
            if not special and start >= begin and stop <= end
        ]
