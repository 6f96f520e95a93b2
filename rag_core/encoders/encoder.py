"""What callers hold: a passage encoder and a question encoder, whatever model is behind them."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from string import Formatter

import numpy as np

from rag_core.encoders.tower import Tower
from rag_core.errors import UsageError

OnRows = Callable[[int], object]


class EncoderKind(StrEnum):
    """`DPR` has one tower for questions and one for passages; `SENTENCE_TRANSFORMERS` one for both."""

    DPR = "dpr"
    SENTENCE_TRANSFORMERS = "sentence_transformers"

    @property
    def towers(self) -> int:
        """1 or 2."""
        return 2 if self is EncoderKind.DPR else 1


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """What both encoders share. The model computes one call at a time, from however many threads it is called.

    Attributes:
      kind: what the model folder holds.
      fingerprint: content hash of the model folder, see `model_files.model_fingerprint`.
      tower: the model.
      prompt: put before each text (sentence-transformers; empty for none).
    """

    kind: EncoderKind
    fingerprint: str
    tower: Tower
    prompt: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def dimension(self) -> int:
        """D, the size of a vector."""
        return self.tower.dimension

    @property
    def towers(self) -> int:
        """2 where questions and passages have encoders of their own, else 1."""
        return self.kind.towers

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are used, special tokens included: never above the model's own maximum."""
        return self.tower.max_tokens

    @property
    def dtype(self) -> str:
        """Of the weights and the arithmetic: `float32`, `bfloat16` or `float16`. Vectors are float32."""
        return str(self.tower.model.dtype).removeprefix("torch.")

    @property
    def batch_invariant(self) -> bool:
        """Whether a text's vector has the same bits whatever it is encoded with; see `Tower.batch_invariant`."""
        return self.tower.batch_invariant

    def describe(self) -> dict[str, str | int | None]:
        """What determines the vectors, for manifests and fingerprints (no path, no device)."""
        return {
            "kind": str(self.kind),
            "fingerprint": self.fingerprint,
            "dimension": self.dimension,
            "towers": self.towers,
            "max_tokens": self.max_tokens,
            "dtype": self.dtype,
            "prompt": self.prompt,
        }

    def _encode(
        self, first: Sequence[str], second: Sequence[str] | None, batch_tokens: int, on_rows: OnRows | None
    ) -> np.ndarray:
        rows = self.tower.tokenize(first, second)  # by as many threads as call; the model by one at a time
        with self._lock:
            return self.tower.encode(rows, batch_tokens=batch_tokens, on_rows=on_rows)


@dataclass(frozen=True, eq=False)
class PassageEncoder(TextEncoder):
    """Passages to vectors.

    Attributes:
      template: how title and text become one text; None where the model takes them as a pair (DPR).
    """

    template: str | None = None

    def encode(
        self,
        titles: Sequence[str],
        texts: Sequence[str],
        *,
        batch_tokens: int,
        on_rows: OnRows | None = None,
    ) -> np.ndarray:
        """Vectors of passages, float32 [N, D], in the order given; vectors that are not finite are kept.

        The vectors depend on `batch_tokens` by rounding alone: within 1e-5 of their norm in float32.

        Args:
          titles: empty where a passage has none.
          texts: as many as titles.
          batch_tokens: a batch's rows times its longest row, in tokens; bounds the memory used.
          on_rows: told the number of rows of each batch when it is done, for progress.
        """
        if len(titles) != len(texts):
            raise ValueError(f"{len(titles)} titles but {len(texts)} texts")
        if self.template is None:
            return self._encode(titles, texts, batch_tokens, on_rows)
        # An untitled passage is its text alone, without the template's blank before it.
        passages = [
            self.prompt + self.template.format(title=title, text=text).strip()
            for title, text in zip(titles, texts, strict=True)
        ]
        return self._encode(passages, None, batch_tokens, on_rows)

    def describe(self) -> dict[str, str | int | None]:
        return super().describe() | {"passage_template": self.template}


@dataclass(frozen=True, eq=False)
class QuestionEncoder(TextEncoder):
    """Questions (or claims) to vectors.

    Attributes:
      passage_encoder_fingerprint: of the passage encoder that belongs to it: itself where there is one
        tower, else what our trainers recorded in config.json; None where nothing is recorded.
    """

    passage_encoder_fingerprint: str | None = None

    def encode(
        self, questions: Sequence[str], *, batch_tokens: int, on_rows: OnRows | None = None
    ) -> np.ndarray:
        """Vectors of questions, float32 [N, D], in the order given; see `PassageEncoder.encode`."""
        return self._encode([self.prompt + question for question in questions], None, batch_tokens, on_rows)

    def describe(self) -> dict[str, str | int | None]:
        return super().describe() | {"passage_encoder_fingerprint": self.passage_encoder_fingerprint}


def check_passage_template(template: str) -> None:
    """Refuses a template that cannot be filled.

    Raises:
      UsageError: it is not well formed, lacks `{text}`, or names something other than title and text.
    """
    try:
        names = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise UsageError(f"--passage_template {template!r}: {error}") from error
    if "text" not in names or not names <= {"title", "text"}:
        raise UsageError(
            f"--passage_template {template!r}: expected {{text}} and, if wanted, {{title}}, "
            "as in '{title} {text}'"
        )
