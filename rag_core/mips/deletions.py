"""Rows of an index that are gone: kept in its files, never found again."""

from collections.abc import Mapping

import numpy as np

from rag_core.errors import UsageError
from rag_core.mips.checksums import ChecksumWriter, FileChecksum, proved_locally
from rag_core.storage import Storage, join

NO_ROWS = np.empty(0, dtype=np.int64)


def rows_within(rows: np.ndarray, first_row: int, count: int) -> np.ndarray:
    """Those of `rows` (int64, ascending) that lie in [first_row, first_row + count), counted from there."""
    low, high = np.searchsorted(rows, [first_row, first_row + count])
    return rows[low:high] - first_row


def write_gone(storage: Storage, folder: str, name: str, rows: np.ndarray) -> FileChecksum:
    """Writes row numbers (int64, ascending) to a NumPy file of the index's folder."""
    with storage.create(join(folder, name)) as file:
        writer = ChecksumWriter(file)
        np.lib.format.write_array(writer, np.ascontiguousarray(rows, dtype="<i8"), version=(1, 0))
        return writer.checksum()


def read_gone(storage: Storage, folder: str, index: Mapping) -> np.ndarray:
    """The rows that are gone, int64, ascending; none where the manifest's `index` object names no file.

    Raises:
      UsageError: the file is not the one that the manifest names, or holds rows of another index.
    """
    entry = index.get("gone")
    if entry is None:
        return NO_ROWS
    where = f"{folder}: manifest.json: gone"
    expected = FileChecksum.from_json(entry, where)
    name = entry.get("name")
    if not isinstance(name, str) or "/" in name or name.startswith("."):
        raise UsageError(f"{where}: expected a plain file name, got {name!r:.200}")
    path = join(folder, name)
    with proved_locally(storage, path, expected) as local_path:
        rows = np.load(local_path, allow_pickle=False)
    if rows.ndim != 1 or rows.dtype != np.int64 or (np.diff(rows) <= 0).any():
        raise UsageError(f"{path}: expected ascending row numbers, got {rows.dtype} {list(rows.shape)}")
    if len(rows) and not 0 <= rows[0] <= rows[-1] < index["rows"]:
        raise UsageError(f"{path}: names rows {rows[0]} to {rows[-1]} of an index of {index['rows']} rows")
    return rows
