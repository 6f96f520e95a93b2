"""Vectors between numpy and Arrow, and those that are not numbers."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from pipelines.dataset.unit import UnitWriter
from rag_core.device_memory import RecordTooLarge
from rag_core.errors import RagBeamError
from rag_core.records import Reject, RejectReason


def vector_column(vectors: np.ndarray) -> pa.FixedSizeListArray:
    """[N, D] of float16 or float32 as a column of fixed-size lists."""
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(vectors).reshape(-1)), vectors.shape[1]
    )


def vector_matrix(column: pa.Array, path: str) -> np.ndarray:
    """A vector column as [N, D] of its own float type; a view where memory allows it.

    Raises:
      ValueError: lists of different lengths; the message names the file.
    """
    values = column.flatten().to_numpy(zero_copy_only=False)
    rows = len(column)
    if rows and len(values) % rows:
        raise ValueError(f"{path}: the vectors have different lengths")
    if rows and pa.types.is_list(column.type) and len(set(column.value_lengths().to_pylist())) > 1:
        raise ValueError(f"{path}: the vectors have different lengths")
    return values.reshape(rows, -1)


def keep_finite(
    vectors: np.ndarray,
    writer: UnitWriter,
    *,
    name: str,
    ids: Sequence[str],
    texts: Sequence[str],
    source: str,
    begin: int,
    remedy: str,
) -> np.ndarray:
    """Which of a unit's vectors [N, D] are numbers throughout, bool [N]; the others' records are rejected.

    Args:
      name: what a record is called, `passage` or `question`.
      source: the file that the records stand in.
      begin: the first one's row there.
      remedy: an option that may help.
    """
    finite = np.isfinite(vectors).all(axis=1)
    for row in np.flatnonzero(~finite):
        writer.reject(
            Reject(
                source=source,
                position=begin + int(row),
                reason=RejectReason.NOT_FINITE,
                message=f"the encoder's vector of {name} {ids[row]!r} holds NaN or infinity; look at its text, or "
                f"try {remedy}",
                record_id=ids[row],
                excerpt=texts[row],
            )
        )
    writer.accept(int(finite.sum()))
    return finite


@contextlib.contextmanager
def naming_what_is_too_large(name: str, ids: Sequence[str], source: str, begin: int) -> Iterator[None]:
    """Gives a record that does not fit into the device's memory the name by which a user knows it.

    Args:
      name: what a record is called, `passage` or `question`.
      ids: of the records that are encoded.
      source: the file that they stand in.
      begin: the first one's row there.

    Raises:
      RagBeamError: names the record.
    """
    try:
        yield
    except RecordTooLarge as error:
        raise RagBeamError(
            f"{source}: row {begin + error.row}: {name} {ids[error.row]!r} {error.told}; lower --max_tokens, or give "
            "another --device"
        ) from error
