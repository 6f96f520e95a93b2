"""Passage ids to rows of an index that are gone."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.dataset.unit import Unit, UnitWriter
from pipelines.filesystems import STORAGE
from pipelines.transforms.index_build import IndexBuild, entry_batch
from pipelines.transforms.units import Work
from rag_core.errors import UsageError
from rag_core.mips.deletions import write_gone
from rag_core.mips.index import MipsIndex
from rag_core.records import LeaveOutReason, Reject, RejectReason


class DeletePassages(Work):
    """Finds the rows of the ids in a file, and writes them down as gone with those that were before."""

    def __init__(self, build: IndexBuild, path: str):
        self._build = build
        self._path = path

    def plan(self) -> Iterator[Unit]:
        yield Unit(0, 0, {}, (self._path,))

    def compute(self, unit: Unit, loaded: Any, writer: UnitWriter) -> None:
        base = self._build.base
        assert base is not None  # only an index that is there loses passages
        index = MipsIndex.open(STORAGE, self._build.folder, base)
        wanted = read_ids(self._path)
        position = {passage_id: place for place, passage_id in reversed(list(enumerate(wanted)))}
        rows = index.find_passages(pa.array(list(position), pa.string()))
        found = dict(zip(index.passage_ids(rows), rows.tolist(), strict=True))
        gone = set(index.gone.tolist())
        for place, passage_id in enumerate(wanted):
            writer.read()
            if not passage_id:
                writer.leave_out(LeaveOutReason.EMPTY_LINE)
            elif passage_id not in found:
                writer.reject(self._unknown(passage_id, place))
            elif found[passage_id] in gone or position[passage_id] != place:
                writer.leave_out(LeaveOutReason.ALREADY_GONE)
            else:
                writer.accept()
        rows = np.union1d(index.gone, rows)
        name = f"gone-{self._build.growth:05d}.npy"
        checksum = write_gone(STORAGE, self._build.folder, name, rows)
        writer.write(entry_batch({"gone": {"name": name, "rows": len(rows), **checksum.to_json()}}))

    def _unknown(self, passage_id: str, place: int) -> Reject:
        return Reject(
            source=self._path,
            position=place,
            reason=RejectReason.UNKNOWN_ID,
            message=f"{self._build.folder} holds no passage {passage_id!r}; give ids of its passage_id column",
            record_id=passage_id,
        )


def read_ids(path: str) -> list[str]:
    """Passage ids from a text file with one a line, or from the `passage_id` column of Parquet.

    Raises:
      UsageError: the file is missing or empty, is not UTF-8, or has no such column.
    """
    try:
        with STORAGE.open(path) as file:
            if path.endswith(".parquet"):
                ids = pq.read_table(file, columns=["passage_id"]).column(0).cast(pa.string()).to_pylist()
            else:
                ids = [line.strip() for line in file.read().decode().splitlines()]
    except FileNotFoundError as error:
        raise UsageError(f"--delete {path}: no such file") from error
    except IsADirectoryError as error:
        raise UsageError(f"--delete {path}: is a folder; give a file of passage ids, one a line") from error
    except (UnicodeDecodeError, pa.ArrowInvalid, KeyError) as error:
        raise UsageError(
            f"--delete {path}: expected passage ids, one a line in UTF-8, or Parquet with a passage_id ({error})"
        ) from error
    if not any(ids):
        raise UsageError(f"--delete {path}: holds no ids; give passage ids, one a line")
    return [passage_id or "" for passage_id in ids]
