"""Vectors of an earlier run, for passages whose title and text have not changed since."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.dataset.reader import Dataset, open_dataset
from pipelines.filesystems import STORAGE
from pipelines.transforms.vectors import vector_matrix
from rag_core.errors import UsageError
from rag_core.tables import inspect_table
from schemas.embeddings import CONTENT_HASH_BYTES

_HASH_DTYPE = np.dtype([("high", "<u8"), ("low", "<u8")])
# Wanted rows nearer to each other than this are read in one go: a row group is decoded whole anyway.
_READ_ON_ROWS = 2_000


def open_earlier(path: str, encoder: dict[str, Any], vector_dtype: str) -> Dataset:
    """The embeddings of an earlier run, once it is sure that this encoder would give them again.

    Args:
      encoder: `PassageEncoder.describe()` of the run that is about to begin.

    Raises:
      UsageError: there are no embeddings, their encoder is not known or another, or they are of another
        precision or do not tell what was encoded.
    """
    earlier = open_dataset(STORAGE, path, "embeddings")
    theirs = earlier.details.get("encoder")
    if theirs is None:
        raise UsageError(f"--reuse {path}: does not tell its encoder; expected embeddings that rag-beam made")
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
        raise UsageError(
            f"--reuse {path}: its vectors are not those of this run ({'; '.join(differences)}); encode without it"
        )
    if "content_hash" not in schema.names:
        raise UsageError(
            f"--reuse {path}: has no column content_hash, by which passages are known; encode without it"
        )
    return earlier


def content_hashes(titles: Sequence[str], texts: Sequence[str]) -> list[bytes]:
    """What a passage's vector depends on besides the encoder: BLAKE2b, 16 bytes, of title and text."""
    return [
        hashlib.blake2b(f"{title}\0{text}".encode(), digest_size=CONTENT_HASH_BYTES).digest()
        for title, text in zip(titles, texts, strict=True)
    ]


class EarlierVectors:
    """The vectors of an earlier run by the content of their passages; holds 24 bytes a vector in memory."""

    def __init__(self, embeddings: Dataset):
        """Reads the content hashes of all rows."""
        self._embeddings = embeddings
        hashes = np.concatenate(
            [
                _hash_array(batch.column("content_hash").to_pylist())
                for batch in embeddings.read(STORAGE, columns=("content_hash",), batch_rows=100_000)
            ]
        )
        self._rows = np.argsort(hashes["high"], kind="stable")
        self._hashes = hashes[self._rows]

    def find(self, hashes: Sequence[bytes]) -> np.ndarray:
        """The row of each passage in the earlier run, int64 [N]; −1 where it holds none of this content."""
        wanted = _hash_array(hashes)
        place = np.searchsorted(self._hashes["high"], wanted["high"])
        place = np.minimum(place, len(self._hashes) - 1)
        return np.where(self._hashes[place] == wanted, self._rows[place], -1)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The vectors of these rows, [N, D] of the dtype stored; reads no more than where they lie."""
        wanted, order = np.unique(rows, return_inverse=True)
        breaks = np.flatnonzero(np.diff(wanted) > _READ_ON_ROWS) + 1
        pieces = []
        for run in np.split(wanted, breaks):
            first = int(run[0])
            for batch in self._embeddings.read(STORAGE, begin=first, end=int(run[-1]) + 1):
                inside = run[(run >= first) & (run < first + batch.num_rows)] - first
                pieces.append(vector_matrix(batch.column("vector"), self._embeddings.path)[inside])
                first += batch.num_rows
        return np.concatenate(pieces)[order]


def _hash_array(hashes: Sequence[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(hashes), dtype=_HASH_DTYPE)
