"""Embeddings to a MIPS index, and questions through it: the work of `index` and `retrieve`."""

import dataclasses
import itertools
import json
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.dataset.ledger import Counts
from pipelines.dataset.manifest import Manifest, check_parts_present, read_manifest
from pipelines.dataset.parts import finish
from pipelines.dataset.reader import Dataset, open_dataset
from pipelines.dataset.target import Target, is_unfinished
from pipelines.dataset.unit import Unit, UnitReport, UnitWriter, unit_path
from pipelines.filesystems import STORAGE
from pipelines.transforms.models import limit_threads
from pipelines.transforms.units import ComputeUnits, Work, explained
from pipelines.transforms.vectors import vector_matrix
from rag_core.errors import UsageError
from rag_core.mips.index import MipsIndex
from rag_core.mips.shard import ShardInfo, write_shard
from rag_core.tables import WrittenFile, read_batches
from schemas import TABLES
from schemas.retrievals import RETRIEVED_PASSAGE

# what a committed unit of an index build holds: one row, the shard's manifest entry
SHARDS_SCHEMA = pa.schema([pa.field("shard", pa.string(), nullable=False)])

_QUESTIONS_AT_ONCE = 500  # whose passages' texts are in memory together


class BuildShards(Work):
    """Writes a shard for each run of vectors, with their passages."""

    def __init__(self, target_folder: str, embeddings: Dataset, passages: Dataset, shard_rows: int):
        self._folder = target_folder
        self._embeddings = embeddings
        self._passages = passages
        self._shard_rows = shard_rows

    def plan(self) -> Iterator[Unit]:
        for number, begin in enumerate(range(0, self._embeddings.rows, self._shard_rows)):
            end = min(begin + self._shard_rows, self._embeddings.rows)
            yield Unit(0, number, {"begin": begin, "end": end}, (self._embeddings.path,), records=end - begin)

    def compute(self, unit: Unit, loaded: Any, writer: UnitWriter) -> None:
        begin, end = unit.content["begin"], unit.content["end"]
        pairs = self._pairs(begin, end, writer)
        first = next(pairs)  # tells the dimension and the precision
        shard = write_shard(
            STORAGE,
            self._folder,
            f"shard-{unit.number:05d}",
            rows=end - begin,
            dimension=first[1].shape[1],
            vector_dtype=str(first[1].dtype),
            batches=itertools.chain([first], pairs),
        )
        entry = json.dumps(shard.to_json(), sort_keys=True)
        writer.write(pa.RecordBatch.from_pylist([{"shard": entry}], schema=SHARDS_SCHEMA))

    def _pairs(self, begin: int, end: int, writer: UnitWriter) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
        """Runs of passages with their vectors."""
        # the passage of vector i stands at i or later
        runs = _PassageRuns(
            self._passages.read(STORAGE, begin=begin), self._passages.rows - self._embeddings.rows
        )
        for batch in self._embeddings.read(STORAGE, begin=begin, end=end):
            ids = batch.column("passage_id")
            vectors = vector_matrix(batch.column("vector"), self._embeddings.path)
            done = 0
            while done < len(ids):
                passages = runs.take(ids.slice(done))
                if passages is None:
                    raise UsageError(
                        f"{self._embeddings.path}: passage {ids[done].as_py()!r} is not in {self._passages.path} at "
                        "its place; give the passages that were encoded, in their order"
                    )
                writer.read(passages.num_rows)
                writer.accept(passages.num_rows)
                yield passages, vectors[done : done + passages.num_rows]
                done += passages.num_rows


class MakeIndex(beam.PTransform):
    """Makes a MIPS index; takes one trigger element, gives one when the manifest is there."""

    def __init__(self, target: Target, work: BuildShards):
        super().__init__(label="Make index")
        self._target = target
        self._work = work

    def expand(self, trigger: beam.PCollection) -> beam.PCollection:
        reports = trigger | ComputeUnits(self._target, self._work)
        return trigger | "WriteManifest" >> beam.ParDo(
            WriteIndexManifestFn(self._target), beam.pvalue.AsList(reports)
        )


class WriteIndexManifestFn(beam.DoFn):
    """Finishes the index: its shards, in order, and their files."""

    def __init__(self, target: Target):
        self._target = target

    def process(self, trigger: Any, reports: list[UnitReport]) -> Iterator[str]:
        with explained(self._target, "writing the index's manifest"):
            self._finish(sorted(reports, key=lambda report: report.order))
        yield self._target.folder

    def _finish(self, reports: list[UnitReport]) -> None:
        shards = []
        for report in reports:
            for batch in read_batches(STORAGE, unit_path(self._target, report, "parquet"), SHARDS_SCHEMA):
                shards += [ShardInfo.from_json(json.loads(entry)) for entry in batch.column(0).to_pylist()]
        files = [
            WrittenFile(name, shard.rows, checksum.bytes, checksum.sha256)
            for shard in shards
            for name, checksum in sorted(shard.files.items())
        ]
        counts = Counts.total([report.counts for report in reports])
        counts.rows_written = sum(shard.rows for shard in shards)
        description = {
            "factory": self._target.details["factory"],
            "metric": "inner_product",
            "dimension": shards[0].dimension,
            "vector_dtype": shards[0].vector_dtype,
            "rows": counts.rows_written,
            "shards": [shard.to_json() for shard in shards],
            "encoder": self._target.details["encoder"],
        }
        finish(STORAGE, dataclasses.replace(self._target, details={"index": description}), counts, files)


class SearchIndex(Work):
    """Retrieves the top K passages for blocks of encoded questions."""

    def __init__(
        self,
        index_folder: str,
        vectors_folder: str,
        *,
        n_docs: int,
        question_block: int,
        memory_bytes: int,
        num_threads: int,
    ):
        self._index_folder = index_folder
        self._vectors_folder = vectors_folder
        self._n_docs = n_docs
        self._question_block = question_block
        self._memory_bytes = memory_bytes
        self._num_threads = num_threads

    def plan(self) -> Iterator[Unit]:
        questions = open_dataset(STORAGE, self._vectors_folder, "question_vectors")
        for number, begin in enumerate(range(0, questions.rows, self._question_block)):
            end = min(begin + self._question_block, questions.rows)
            yield Unit(0, number, {"begin": begin, "end": end}, (self._vectors_folder,), records=end - begin)

    def load(self) -> MipsIndex:
        limit_threads(self._num_threads)
        index = index_manifest(self._index_folder).details["index"]
        return MipsIndex.open(STORAGE, self._index_folder, index)

    def compute(self, unit: Unit, loaded: MipsIndex, writer: UnitWriter) -> None:
        questions = open_dataset(STORAGE, self._vectors_folder, "question_vectors")
        batches = list(questions.read(STORAGE, begin=unit.content["begin"], end=unit.content["end"]))
        vectors = np.concatenate([vector_matrix(batch.column("vector"), questions.path) for batch in batches])
        found = loaded.search(vectors, self._n_docs, memory_bytes=self._memory_bytes)
        block = pa.Table.from_batches(batches).select(TABLES["questions"].names)
        for begin in range(0, len(vectors), _QUESTIONS_AT_ONCE):
            rows = found.rows[begin : begin + _QUESTIONS_AT_ONCE]
            scores = found.scores[begin : begin + _QUESTIONS_AT_ONCE]
            writer.write(
                _retrievals(block.slice(begin, len(rows)), loaded.passages(rows.reshape(-1)), scores)
            )
            writer.read(len(rows))
            writer.accept(len(rows))


def index_manifest(folder: str) -> Manifest:
    """The manifest of a finished index; `details["index"]` describes it.

    Raises:
      UsageError: there is no finished index, or a shard's file is missing or of another size.
    """
    if not STORAGE.exists(folder):
        raise UsageError(f"{folder}: no such index; make one with rag-beam index")
    manifest = read_manifest(STORAGE, folder)
    if manifest is None:
        state = (
            "is unfinished (run rag-beam index again)"
            if is_unfinished(STORAGE, folder)
            else "has no manifest.json"
        )
        raise UsageError(f"{folder}: {state}; expected a MIPS index")
    if manifest.table != "mips_index":
        raise UsageError(
            f"{folder}: holds {manifest.table}, expected a MIPS index; make one with rag-beam index"
        )
    check_parts_present(STORAGE, folder, manifest)
    return manifest


def _retrievals(questions: pa.Table, passages: pa.Table, scores: np.ndarray) -> pa.RecordBatch:
    """Rows of the retrievals table from Q questions and their Q × K passages, question by question."""
    count, n_docs = scores.shape
    columns = [
        *(passages.column(name) for name in RETRIEVED_PASSAGE.names[:-1]),
        pa.array(scores.reshape(-1)),
    ]
    structs = pa.StructArray.from_arrays(
        [column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column for column in columns],
        fields=list(RETRIEVED_PASSAGE),
    )
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * n_docs)
    lists = pa.ListArray.from_arrays(offsets, structs, type=TABLES["retrievals"].field("passages").type)
    merged = questions.combine_chunks().append_column(TABLES["retrievals"].field("passages"), lists)
    return merged.cast(TABLES["retrievals"]).to_batches()[0]


class _PassageRuns:
    """Walks over passages, taking the runs that have given ids, in order.

    Vectors are an ordered subset of the passages (a vector that was not finite is missing), so at
    most `spare` passages may be passed over.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch], spare: int):
        self._batches = batches
        self._batch = next(batches, None)
        self._at = 0
        self._spare = spare

    def take(self, ids: pa.Array) -> pa.RecordBatch | None:
        """The passages of the first ids, as many as lie together; None where the first one is not found."""
        while self._batch is not None and self._spare >= 0:
            here = self._batch.slice(self._at, len(ids))
            if here.num_rows:
                same = _equal_run(here.column("passage_id"), ids)
                if same:
                    self._at += same
                    return here.slice(0, same)
                self._at += 1
                self._spare -= 1
            else:
                self._batch, self._at = next(self._batches, None), 0
        return None


def _equal_run(left: pa.Array, right: pa.Array) -> int:
    """How many values at the start are equal."""
    length = min(len(left), len(right))
    left, right = left.slice(0, length), right.slice(0, length)
    if left.equals(right):
        return length
    return int(np.argmin(pc.equal(left, right).to_numpy(zero_copy_only=False)))
