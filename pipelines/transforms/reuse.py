"""Vectors of an earlier run, for passages whose title and text have not changed since."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.dataset.reader import Dataset, open_dataset
from pipelines.filesystems import STORAGE
from pipelines.transforms.earlier_rows import EarlierRows
from pipelines.transforms.vectors import vector_matrix
from rag_core.errors import UsageError
from rag_core.tables import inspect_table
from schemas.embeddings import CONTENT_HASH_BYTES


class NotReusable(UsageError):
    """What an earlier run made is not what this one would make; without it all is made anew."""


def open_earlier(path: str, encoder: dict[str, Any], vector_dtype: str) -> Dataset:
    """The embeddings of an earlier run, once it is sure that this encoder would give them again.

    Args:
      encoder: `PassageEncoder.describe()` of the run that is about to begin.

    Raises:
      NotReusable: their encoder is not known or another, or they are of another precision or do not tell what
        was encoded.
      UsageError: there are no embeddings.
    """
    earlier = open_dataset(STORAGE, path, "embeddings")
    theirs = earlier.details.get("encoder")
    if theirs is None:
        raise NotReusable(
            f"--reuse {path}: does not tell its encoder; expected embeddings that rag-beam made"
        )
    differences = [
        f"{name} was {theirs.get(name)!r}, is {value!r}"
        for name, value in encoder.items()
        if theirs.get(name) != value
    ]
    schema = inspect_table(STORAGE, earlier.parts[0].path).schema
    dtype = "float16" if pa.types.is_float16(schema.field("vector").type.value_type) else "float32"
    if dtype != vector_dtype:
        differences.append(f"--vector_dtype was {dtype}, is {vector_dtype}")
    if differences:
        raise NotReusable(
            f"--reuse {path}: its vectors are not those of this run ({'; '.join(differences)}); encode without it"
        )
    if "content_hash" not in schema.names:
        raise NotReusable(
            f"--reuse {path}: has no column content_hash, by which passages are known; encode without it"
        )
    return earlier


def content_hashes(titles: Sequence[str], texts: Sequence[str]) -> list[bytes]:
    """What a passage's vector depends on besides the encoder: BLAKE2b, 16 bytes, of title and text."""
    return [
        hashlib.blake2b(f"{title}\0{text}".encode(), digest_size=CONTENT_HASH_BYTES).digest()
        for title, text in zip(titles, texts, strict=True)
    ]


class EarlierVectors(EarlierRows):
    """The vectors of an earlier run by what was encoded: the content of passages, or the text of questions."""

    def __init__(self, vectors: Dataset, column: str = "content_hash"):
        """Reads the hashes, or the texts, of all rows."""
        super().__init__(vectors, column)
        self._path = vectors.path

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The vectors of these rows, [N, D] of the dtype stored."""
        wanted, order = np.unique(rows, return_inverse=True)
        pieces = [
            vector_matrix(batch.column("vector"), self._path) for batch in self.read(wanted, ("vector",))
        ]
        return np.concatenate(pieces)[order]
