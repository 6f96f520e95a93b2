"""Opens a data set to read: ours, proved by its manifest, or Parquet that somebody else made."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipelines.dataset.manifest import (
    MANIFEST,
    Input,
    Manifest,
    check_parts_present,
    fingerprint,
    read_manifest,
)
from pipelines.dataset.target import is_unfinished
from rag_core.errors import UsageError
from rag_core.storage import Storage, file_name, file_sha256, join
from rag_core.tables import inspect_table, read_batches
from schemas import TABLES, SchemaError, readable_schema


@dataclass(frozen=True)
class Part:
    """A file of a data set. `sha256` is the one that its content must have when it is read."""

    path: str
    rows: int
    sha256: str

    def read(
        self,
        storage: Storage,
        table: str,
        *,
        begin: int = 0,
        end: int | None = None,
        batch_rows: int = 1_000,
        columns: tuple[str, ...] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Streams rows [begin, end) of `columns` (all), the file's checksum proved first (once a process).

        Raises:
          UsageError: the file is missing, damaged or another than the manifest lists.
        """
        prove_part(storage, self)
        schema = TABLES[table]
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])
        yield from read_batches(storage, self.path, schema, begin=begin, end=end, batch_rows=batch_rows)


@dataclass(frozen=True)
class Dataset:
    """An input data set: its parts in order.

    Attributes:
      fingerprint: the manifest's, or the hash of the files' hashes where there is no manifest.
      inputs: what it was made from; empty for Parquet made elsewhere.
      details: what the stage that made it told in the manifest; empty for Parquet made elsewhere.
    """

    path: str
    table: str
    parts: list[Part]
    fingerprint: str
    inputs: list[Input] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    def read(
        self,
        storage: Storage,
        *,
        begin: int = 0,
        end: int | None = None,
        batch_rows: int = 1_000,
        columns: tuple[str, ...] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Streams rows [begin, end) of `columns` (all), counted over all parts; no batch spans two parts."""
        first = 0
        end = self.rows if end is None else end
        for part in self.parts:
            low, high = max(begin - first, 0), min(end - first, part.rows)
            if low < high:
                yield from part.read(
                    storage, self.table, begin=low, end=high, batch_rows=batch_rows, columns=columns
                )
            first += part.rows

    def row_ranges(self, unit_rows: int) -> Iterator[tuple[int, int, int, int]]:
        """(part, number within the part, begin, end) of each run of at most `unit_rows` rows of a part."""
        for index, part in enumerate(self.parts):
            for number, begin in enumerate(range(0, part.rows, unit_rows)):
                yield index, number, begin, min(begin + unit_rows, part.rows)

    def as_input(self) -> Input:
        """This data set as an input of another."""
        return Input(self.path, self.fingerprint)


def open_dataset(storage: Storage, path: str, table: str) -> Dataset:
    """Opens `path`, a folder or one Parquet file, as the table named.

    Raises:
      UsageError: nothing is there, it is unfinished, it holds another table, its columns do not
        fit, a part is missing or of another size than the manifest says, or it has no rows.
    """
    if not storage.exists(path):
        raise UsageError(
            f"{path}: no such folder or file; expected the {table} of an earlier stage, or Parquet"
        )
    manifest = read_manifest(storage, path) if storage.is_folder(path) else None
    dataset = _ours(storage, path, table, manifest) if manifest else _foreign(storage, path, table)
    if not dataset.rows:
        raise UsageError(f"{path}: holds no {table}; nothing can be made from it")
    return dataset


def find_table(storage: Storage, path: str, tables: tuple[str, ...]) -> str:
    """Which of `tables` a data set holds: what its manifest says, else the first whose columns fit.

    Raises:
      UsageError: nothing is there, or it holds none of them.
    """
    if not storage.exists(path):
        raise UsageError(f"{path}: no such folder or file; expected {', '.join(tables)}")
    manifest = read_manifest(storage, path) if storage.is_folder(path) else None
    if manifest is not None:
        if manifest.table in tables:
            return manifest.table
        raise UsageError(f"{path}: holds {manifest.table}, expected {', '.join(tables)}")
    for table in tables:
        with contextlib.suppress(UsageError):
            return _foreign(storage, path, table).table
    raise UsageError(f"{path}: is unfinished, or its columns are those of none of {', '.join(tables)}")


def _ours(storage: Storage, path: str, table: str, manifest: Manifest) -> Dataset:
    if manifest.table != table:
        raise UsageError(f"{path}: holds {manifest.table}, expected {table}")
    check_parts_present(storage, path, manifest)
    parts = [Part(join(path, part.name), part.rows, part.sha256) for part in manifest.parts]
    return Dataset(path, table, parts, manifest.fingerprint, manifest.inputs, manifest.details)


def _foreign(storage: Storage, path: str, table: str) -> Dataset:
    folder = storage.is_folder(path)
    files = [file for file in storage.list_files(path) if file.endswith(".parquet")] if folder else [path]
    if folder and (is_unfinished(storage, path) or any(_is_ours(storage, file) for file in files)):
        raise UsageError(
            f"{path}: is unfinished (it has no {MANIFEST}); run the stage that makes its {table} again, it goes on "
            "where it ended"
        )
    if not files:
        raise UsageError(f"{path}: holds no Parquet files; expected {table}")
    parts = []
    for file in files:
        found = inspect_table(storage, file)
        try:
            readable_schema(found.schema, TABLES[table], file)
        except SchemaError as error:
            raise UsageError(f"{error}; expected the columns of {table}") from error
        parts.append(Part(file, found.rows, file_sha256(storage, file)))
    return Dataset(path, table, parts, fingerprint([part.sha256 for part in parts]))


def _is_ours(storage: Storage, path: str) -> bool:
    return file_name(path).startswith("part-") and inspect_table(storage, path).footer is not None


# files whose content was hashed in this process, as they stood then
_proved: set[tuple[str, str, str]] = set()
_proving = threading.Lock()


def prove_part(storage: Storage, part: Part) -> None:
    """Reads a part (once a process, while it stays as it is) and compares its SHA-256.

    Raises:
      UsageError: it is missing, damaged or another.
    """
    try:
        stamp = storage.stamp(part.path)
    except FileNotFoundError as error:
        raise UsageError(f"{part.path}: is missing; make its data set again with --overwrite") from error
    known = (part.path, part.sha256, stamp)
    with _proving:
        if known in _proved:
            return
        found = file_sha256(storage, part.path)
        if found != part.sha256:
            raise UsageError(
                f"{part.path}: its content has SHA-256 {found[:12]}…, expected {part.sha256[:12]}…: it was changed "
                "or damaged since it was made; make its data set again with --overwrite"
            )
        _proved.add(known)
