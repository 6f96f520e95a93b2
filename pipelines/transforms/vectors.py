"""Vectors between numpy and Arrow."""

import numpy as np
import pyarrow as pa


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
