"""Whether an index can be searched as asked: the encoder's vectors belong to it, the options to its kind."""

from collections.abc import Mapping
from typing import Any

from rag_core.errors import UsageError
from rag_core.mips.factory import EXACT

EFFORT_OPTIONS = ("nprobe", "ef_search", "refine_factor")


def chosen_effort(
    folder: str, index: Mapping[str, Any], given: Mapping[str, int], exact: bool
) -> dict[str, int] | None:
    """How hard an approximate index looks: its own effort, but for the options given; None: exactly.

    Args:
      folder: of the index.
      index: its description in the manifest.
      given: of `EFFORT_OPTIONS`.
      exact: whether an approximate index is to be searched exactly.

    Raises:
      UsageError: an option of an approximate search for an exact one.
    """
    if index["factory"] != EXACT and not exact:
        return index["effort"] | given
    if given:
        raise UsageError(
            f"--{next(iter(given))}: belongs to an approximate search; {folder} is searched exactly"
        )
    return None


def check_encoders_belong(
    question: str, encoder: Mapping[str, Any], folder: str, index: Mapping[str, Any]
) -> str | None:
    """Whether question encoder and index have one vector space; returns a warning where nobody recorded it.

    Args:
      question: the question encoder's folder or hub id.
      encoder: `QuestionEncoder.describe()`.
      folder: of the index.
      index: its description in the manifest.

    Raises:
      UsageError: another dimension; a one-tower encoder other than the index's; a question encoder
        that was trained for another passage encoder.
    """
    if encoder["dimension"] != index["dimension"]:
        raise UsageError(
            f"--encoder {question}: gives vectors of {encoder['dimension']} dimensions, {folder} holds "
            f"{index['dimension']}; give the question encoder that belongs to the index's passage encoder"
        )
    indexed = index["encoder"]
    belongs_to = encoder["passage_encoder_fingerprint"]
    if indexed is None:
        return (
            f"{folder}: does not say which encoder made its vectors; the scores mean something only if "
            f"{question} belongs to it"
        )
    if belongs_to is not None and belongs_to != indexed["fingerprint"]:
        raise UsageError(
            f"--encoder {question}: belongs to the passage encoder {belongs_to[:12]}…, {folder} was made with "
            f"{indexed['model']} ({indexed['fingerprint'][:12]}…); give the question encoder of the index"
        )
    if belongs_to is None and indexed["towers"] == 1:
        raise UsageError(
            f"--encoder {question}: is not the encoder that made {folder}, {indexed['model']} "
            f"({indexed['fingerprint'][:12]}…), which encodes questions and passages alike; give that one"
        )
    if belongs_to is None:
        return (
            f"{question}: does not record the passage encoder it was trained with; {folder} was made with "
            f"{indexed['model']}"
        )
    return None
