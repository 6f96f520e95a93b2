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

    def __call__(self, question: str, passages: Sequence[PassageText]) -> list[list[int]]:
        """Token ids of one context a passage; without passages one context, the question alone.

        Raises:
          QuestionTooLongError: the question alone exceeds what the encoder can read.
        """
        if not passages:
            closed_book = self.format.prefix + question
            contexts, tail_starts = [closed_book], [0]
        else:
            contexts = [self._join(passage, question) for passage in passages]
            tail = (self.format.doc_sep + question).lstrip(" ").replace("  ", " ")
            tail_starts = [len(context.removesuffix(tail).rstrip(" ")) for context in contexts]
        encoding = self._tokenizer(
            contexts,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            truncation=False,
            verbose=False,
        )
        return [
            self._truncate(*row)
            for row in zip(
                encoding["input_ids"],
                encoding["offset_mapping"],
                encoding["special_tokens_mask"],
                tail_starts,
                strict=True,
            )
        ]

    def _join(self, passage: PassageText, question: str) -> str:
        title = passage.title.removeprefix('"').removesuffix('"')
        form = self.format
        return f"{form.prefix}{title}{form.title_sep}{passage.text}{form.doc_sep}{question}".replace(
            "  ", " "
        )

    def _truncate(
        self, ids: list[int], offsets: list[tuple[int, int]], special: list[int], tail_start: int
    ) -> list[int]:
        """Drops as many tokens as are too many, from the end of the passage, before the character `tail_start`."""
        excess = len(ids) - self._max_tokens
        if excess <= 0:
            return ids
        head_start = len(self.format.prefix.replace("  ", " "))
        passage = [
            i
            for i, (start, end) in enumerate(offsets)
            if not special[i] and start >= head_start and end <= tail_start
        ]
        dropped = set(passage[-excess:])
        kept = [token for i, token in enumerate(ids) if i not in dropped]
        if self._max_positions is not None and len(kept) > self._max_positions:
            raise QuestionTooLongError(
                f"the question takes {len(kept)} tokens, the generator reads at most {self._max_positions}; "
                "shorten it"
            )
        return kept
