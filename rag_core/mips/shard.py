"""A shard on disk: vectors and passages in the same row order, written as streams.

`{name}.vectors.npy` is a plain NumPy file, row-major `[rows, D]` float16 or float32.
`{name}.faiss`, where the index is approximate, holds the same vectors as FAISS's codes (`codes`).
`{name}.passages.arrow` is an Arrow IPC file of small compressed record batches, all of the same
number of rows but the last; its footer is the offset table, so any row's batch is found by a division.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa

from rag_core.errors import UsageError
from rag_core.mips.checksums import ChecksumWriter, FileChecksum
from rag_core.storage import Storage, join

# 64 texts of 100 words are about 40 kB. LZ4 takes a third more room than zstd for batches of this size,
# and a tenth of the time to take a passage out.
PASSAGES_PER_BATCH = 64
VECTOR_DTYPES = ("float16", "float32")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """A shard's entry in the manifest.

    Attributes:
      name: prefix of its file names.
      rows: number of vectors and of passages.
      dimension: D.
      vector_dtype: `float16` or `float32`, as stored.
      max_norm: an upper bound of the stored vectors' Euclidean norms; bounds the error of scores.
      files: the checksum of each of its files, by file name.
      trained_sha256: of the trained FAISS index that its codes were made with; None where the shard
        has no codes.
    """

    name: str
    rows: int
    dimension: int
    vector_dtype: str
    max_norm: float
    files: Mapping[str, FileChecksum]
    trained_sha256: str | None = None

    @property
    def vectors_file(self) -> str:
        """Name of the file of vectors."""
        return f"{self.name}.vectors.npy"

    @property
    def passages_file(self) -> str:
        """Name of the file of passages."""
        return f"{self.name}.passages.arrow"

    @property
    def codes_file(self) -> str:
        """Name of the file of codes: a FAISS index of the shard's vectors."""
        return f"{self.name}.faiss"

    def with_codes(self, codes: FileChecksum, trained_sha256: str) -> "ShardInfo":
        """The same shard with a file of codes."""
        files = {**self.files, self.codes_file: codes}
        return dataclasses.replace(self, files=files, trained_sha256=trained_sha256)

    def to_json(self) -> dict[str, object]:
        """The manifest's entry; `from_json` reads it back."""
        return {
            "name": self.name,
            "rows": self.rows,
            "dimension": self.dimension,
            "vector_dtype": self.vector_dtype,
            "max_norm": self.max_norm,
            "files": {file: checksum.to_json() for file, checksum in self.files.items()},
            "trained_sha256": self.trained_sha256,
        }

    @classmethod
    def from_json(cls, entry: object, where: str = "manifest.json") -> "ShardInfo":
        """Reads a manifest's entry, and lets no name lead out of the index's folder.

        Args:
          entry: the parsed JSON object.
          where: names the manifest in the error.

        Raises:
          UsageError: a field is missing, of another type, or out of its range.
        """
        fields = entry if isinstance(entry, Mapping) else {}
        name, files = fields.get("name"), fields.get("files")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(
                f"{where}: a shard's name is letters, digits, '.', '_' and '-', got {name!r:.200}"
            )
        where = f"{where}: shard {name}"
        for key in ("rows", "dimension"):
            if type(fields.get(key)) is not int or cast(int, fields[key]) < 1:
                raise UsageError(
                    f"{where}: {key} is expected to be a whole number above 0, got {fields.get(key)!r:.200}"
                )
        if fields.get("vector_dtype") not in VECTOR_DTYPES:
            raise UsageError(
                f"{where}: vector_dtype is one of {VECTOR_DTYPES}, got {fields.get('vector_dtype')!r:.200}"
            )
        max_norm = fields.get("max_norm")
        if not isinstance(max_norm, int | float) or not 0 <= max_norm < float("inf"):
            raise UsageError(f"{where}: max_norm is expected to be a number from 0, got {max_norm!r:.200}")
        if not isinstance(files, Mapping):
            raise UsageError(f"{where}: files is expected to be an object, got {files!r:.200}")
        info = cls(
            name=name,
            rows=fields["rows"],
            dimension=fields["dimension"],
            vector_dtype=fields["vector_dtype"],
            max_norm=float(max_norm),
            files={file: FileChecksum.from_json(value, f"{where}: {file}") for file, value in files.items()},
            trained_sha256=fields.get("trained_sha256"),
        )
        expected = {info.vectors_file, info.passages_file}
        if info.trained_sha256 is not None:
            expected.add(info.codes_file)
        if set(files) != expected:
            raise UsageError(f"{where}: expected the files {sorted(expected)}, got {sorted(files)!r:.200}")
        return info


def write_shard(
    storage: Storage,
    folder: str,
    name: str,
    *,
    rows: int,
    dimension: int,
    vector_dtype: str,
    batches: Iterable[tuple[pa.RecordBatch, np.ndarray]],
) -> ShardInfo:
    """Writes a shard's two files as streams; both appear only when both are whole.

    Args:
      storage: where `folder` is.
      folder: the index's folder.
      name: prefix of the file names.
      rows: how many rows `batches` will deliver (the header of a NumPy file says it first).
      dimension: D.
      vector_dtype: `float16` or `float32`; vectors are rounded to it.
      batches: passages (all of one schema, with `passage_id`) and their vectors `[n, D]`, in row order.

    Raises:
      ValueError: the batches do not have the rows, the dimension or the schema announced, or hold a
        vector that is not finite or does not fit `vector_dtype`. No file is left then.
    """
    if not _NAME.fullmatch(name) or vector_dtype not in VECTOR_DTYPES or rows < 1 or dimension < 1:
        raise ValueError(
            f"shard {name!r}: {rows} rows, dimension {dimension}, {vector_dtype} cannot be written"
        )
    info = ShardInfo(name, rows, dimension, vector_dtype, 0.0, {})
    with (
        storage.create(join(folder, info.vectors_file)) as vectors_file,
        storage.create(join(folder, info.passages_file)) as passages_file,
    ):
        vectors = _VectorWriter(ChecksumWriter(vectors_file), info)
        passages = _PassageWriter(ChecksumWriter(passages_file), info)
        for passage_batch, vector_batch in batches:
            if passage_batch.num_rows != len(vector_batch):
                raise ValueError(
                    f"shard {name}: {passage_batch.num_rows} passages with {len(vector_batch)} vectors "
                    f"after row {vectors.rows}"
                )
            vectors.write(vector_batch)
            passages.write(passage_batch)
        if vectors.rows != rows:
            raise ValueError(f"shard {name}: expected {rows} rows, got {vectors.rows}")
        files = {info.vectors_file: vectors.file.checksum(), info.passages_file: passages.close()}
    return ShardInfo(name, rows, dimension, vector_dtype, vectors.max_norm, files)


class _VectorWriter:
    """Streams a `.npy` file whose shape is known beforehand."""

    def __init__(self, file: ChecksumWriter, info: ShardInfo) -> None:
        self.file = file
        self.rows = 0
        self.max_norm = 0.0
        self._info = info
        self._dtype = np.dtype(info.vector_dtype).newbyteorder("<")
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (info.rows, info.dimension)}
        np.lib.format.write_array_header_1_0(file, header)

    def write(self, vectors: np.ndarray) -> None:
        info = self._info
        if vectors.ndim != 2 or vectors.shape[1] != info.dimension:
            raise ValueError(
                f"shard {info.name}: expected vectors [n, {info.dimension}], got {list(vectors.shape)}"
            )
        if self.rows + len(vectors) > info.rows:
            raise ValueError(f"shard {info.name}: expected {info.rows} rows, got more")
        with np.errstate(over="ignore"):  # what overflows is refused below
            stored = np.ascontiguousarray(vectors, dtype=self._dtype)
        finite = np.isfinite(stored).all(axis=1)
        if not finite.all():
            row = self.rows + int(np.argmin(finite))
            raise ValueError(
                f"shard {info.name}: the vector of row {row} is not finite in {info.vector_dtype}"
            )
        squares = np.square(stored, dtype=np.float64).sum(axis=1)
        # widened by more than float64 can have rounded off
        largest = float(np.sqrt(squares.max(initial=0.0))) * (1 + 1e-9)
        self.max_norm = max(self.max_norm, largest)
        self.file.write(stored)
        self.rows += len(stored)


class _PassageWriter:
    """Streams an Arrow IPC file whose batches all have `PASSAGES_PER_BATCH` rows, but the last."""

    def __init__(self, file: ChecksumWriter, info: ShardInfo) -> None:
        self._file = file
        self._info = info
        self._pending: pa.Table | None = None  # the rows of the batch not yet full
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def write(self, passages: pa.RecordBatch) -> None:
        pending = pa.Table.from_batches([passages])
        if self._pending is not None:
            pending = pa.concat_tables([self._pending, pending])
        whole = pending.num_rows - pending.num_rows % PASSAGES_PER_BATCH
        for start in range(0, whole, PASSAGES_PER_BATCH):
            self._write_batch(pending.slice(start, PASSAGES_PER_BATCH))
        self._pending = pending.slice(whole)

    def close(self) -> FileChecksum:
        if self._pending is not None and self._pending.num_rows:
            self._write_batch(self._pending)
        if self._writer is not None:
            self._writer.close()
        return self._file.checksum()

    def _write_batch(self, passages: pa.Table) -> None:
        if self._writer is None:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writer = pa.ipc.new_file(self._file, passages.schema, options=options)
        # taken, not sliced: a copy has no traces of where it was cut, so equal rows are equal bytes
        copy = passages.take(np.arange(passages.num_rows)).combine_chunks()
        self._writer.write_batch(copy.to_batches()[0])
