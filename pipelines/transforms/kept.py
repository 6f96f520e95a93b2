"""Answers and labels of an earlier run, for questions whose retrieval has not changed since."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.dataset.manifest import read_manifest
from pipelines.dataset.reader import Dataset, open_dataset
from pipelines.filesystems import STORAGE
from pipelines.transforms.earlier_rows import EarlierRows
from pipelines.transforms.reuse import NotReusable
from rag_core.tables import inspect_table
from schemas import TABLES
from schemas.retrievals import RETRIEVAL_HASH_BYTES

# cuts the work into units, and changes a row by no more than the rounding that another batch brings
_ABOUT_UNITS = frozenset({"unit_rows"})


def retrieval_hash(retrieval: dict[str, Any]) -> bytes:
    """What an answer depends on besides the generator and its settings: BLAKE2b, 16 bytes.

    Question, ids, titles and texts of the passages in their order, and the scores to the last bit. Not the
    question's id: the same question under another id has the same answer.

    Args:
      retrieval: a row of retrievals, its passages those that are used.
    """
    passages = [
        [passage[name] for name in ("passage_id", "document_id", "title", "text", "score")]
        for passage in retrieval["passages"]
    ]
    content = json.dumps([retrieval["question"], passages], ensure_ascii=False)
    return hashlib.blake2b(content.encode(), digest_size=RETRIEVAL_HASH_BYTES).digest()


def open_earlier_results(path: str, table: str, settings: dict[str, Any]) -> Dataset:
    """The answers or labels of an earlier run, once it is sure that this model and settings gave them.

    Args:
      settings: the settings that count of the run that is about to begin.

    Raises:
      NotReusable: model or settings were others, or the rows do not tell what they were made from.
      UsageError: there is no such table.
    """
    earlier = open_dataset(STORAGE, path, table)
    manifest = read_manifest(STORAGE, path) if STORAGE.is_folder(path) else None
    if manifest is None:
        raise NotReusable(f"--reuse {path}: does not tell its model; expected {table} that rag-beam made")
    theirs = manifest.settings
    differences = [
        f"{name} was {theirs.get(name)!r:.60}, is {settings.get(name)!r:.60}"
        for name in sorted({*theirs, *settings} - _ABOUT_UNITS)
        if theirs.get(name) != settings.get(name)
    ]
    if differences:
        raise NotReusable(
            f"--reuse {path}: its {table} are not those of this run ({'; '.join(differences)}); run without it"
        )
    if "retrieval_hash" not in inspect_table(STORAGE, earlier.parts[0].path).schema.names:
        raise NotReusable(
            f"--reuse {path}: has no column retrieval_hash, by which retrievals are known; run without it"
        )
    return earlier


class EarlierResults(EarlierRows):
    """The answers or labels of an earlier run by what they were made from."""

    def __init__(self, results: Dataset):
        """Reads the hashes of all rows."""
        super().__init__(results, "retrieval_hash")
        self._schema = TABLES[results.table]

    def take(self, rows: np.ndarray, question_ids: Sequence[str]) -> pa.RecordBatch:
        """These rows as they are, under the question ids of this run."""
        wanted, order = np.unique(rows, return_inverse=True)
        taken = pa.Table.from_batches(self.read(wanted)).take(pa.array(order)).combine_chunks()
        columns = [taken.column(name).combine_chunks() for name in self._schema.names]
        columns[self._schema.get_field_index("question_id")] = pa.array(question_ids, pa.string())
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)
