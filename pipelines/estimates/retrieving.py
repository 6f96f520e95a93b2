"""Retrieving: questions are read and encoded, all vectors searched, passages taken; each grows differently."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import torch

from pipelines.estimates.bounded_reading import BoundedReading
from pipelines.estimates.forecasts import SAMPLE_ROWS, Estimate, Forecast, evenly
from pipelines.estimates.indexing import VECTOR
from pipelines.estimates.sample_run import (
    RUNNER_SECONDS,
    SampleRun,
    grow,
    made_rows,
    make,
    sample_target,
    stored,
    temporary_folder,
)
from pipelines.filesystems import STORAGE
from pipelines.transforms.search import TakePassages
from pipelines.transforms.vectors import vector_matrix
from rag_core.mips.index import MipsIndex
from rag_core.mips.products import TILE_QUESTIONS
from rag_core.mips.shard import write_shard
from rag_core.questions import QuestionSource, read_question_source
from rag_core.records import Question
from schemas import TABLES

_FIRST_QUESTIONS = 8
_FIRST_VECTORS, _MOST_VECTORS, _VECTORS_AT_ONCE = 1 << 14, 1 << 18, 1 << 12
_RESULT_BYTES = 12  # row and score of a passage found
_DATA_SETS = 4  # questions, their vectors, results, retrievals


@dataclasses.dataclass(frozen=True)
class Search:
    """What of a retrieval's options counts.

    Attributes:
      n_docs: K.
      memory_bytes: for a search.
      device: where vectors are multiplied.
    """

    n_docs: int
    memory_bytes: int
    device: torch.device


def forecast_questions(sources: list[QuestionSource]) -> Forecast:
    """The questions of files, counted as far as the time for reading reaches, beyond it by their bytes."""
    reading = BoundedReading(sources, read_question_source)
    ids: set[str] = set()
    sample: list[dict] = []
    for source in reading.sources:
        for record in reading.records(source):
            if isinstance(record, Question) and record.question_id not in ids:
                ids.add(record.question_id)
                if len(sample) < SAMPLE_ROWS:
                    sample.append({name: getattr(record, name) for name in TABLES["questions"].names})
    table = pa.Table.from_pylist(sample, schema=TABLES["questions"])
    return Forecast(round(len(ids) / reading.share), len(sources), table)


def estimate_retrieval(
    index: Forecast,
    encoded: Estimate,
    work_on: Callable[[str, str], TakePassages],
    search: Search,
    *,
    rows_per_part: int,
) -> Estimate:
    """What the retrievals of questions that are encoded will take, the encoding included.

    The sample's retrievals are as long as the real ones will be, and of passages that are no better
    than any: how much the passages of the answers differ from them is not known before the search.

    Args:
      index: with vectors beside the passages, see `forecast_index`.
      encoded: the question vectors.
      work_on: the taking of passages, for the data sets of question vectors and of results.
      search: the options.
      rows_per_part: the most rows of a part.
    """
    assert encoded.sample is not None  # estimated from questions that were encoded
    questions = encoded.sample
    n_docs = min(search.n_docs, index.rows, index.sample.num_rows)
    # as many questions as have passages of their own: repeated texts would compress
    different = max(1, min(questions.num_rows, index.sample.num_rows // n_docs))
    sample: pa.Table | None = None
    with temporary_folder() as folder:
        found = _sample_index(folder, index.sample)
        asked = questions.slice(0, different)
        results = _any_results(found, asked, n_docs)

        def run(rows: int) -> SampleRun:
            nonlocal sample
            with temporary_folder() as own:
                vectors = stored(own, "question_vectors", evenly(asked, rows))
                rows_found = stored(own, "search_results", evenly(results, rows))
                target = sample_target(own, "retrievals")
                took = make(work_on(vectors.path, rows_found.path), found, target, rows)
                if rows <= different:
                    sample = made_rows(target)
            return took

        last, sized = grow(run, first_rows=_FIRST_QUESTIONS, sample_rows=different, rows=encoded.rows)
    taken = last.estimate(
        encoded.rows,
        parts=math.ceil(encoded.rows / rows_per_part),
        sized=sized,
        sample=sample,
        notes=("exact search",),
    )
    seconds = search_seconds(index, questions, encoded.rows, search)
    on_the_way = encoded.disk_bytes + encoded.rows * n_docs * _RESULT_BYTES
    return dataclasses.replace(
        taken,
        seconds=encoded.seconds + seconds + taken.seconds + (_DATA_SETS - 2) * RUNNER_SECONDS,
        peak_disk_bytes=taken.peak_disk_bytes + on_the_way,
    )


def search_seconds(index: Forecast, vectors: pa.Table, questions: int, search: Search) -> float:
    """How long the exact search takes, from searches of random vectors of the same kind.

    As many questions are asked at a time as in the search to be, up to a tile of its products.
    """
    asked = min(questions, TILE_QUESTIONS)
    matrix = _matrix(evenly(vectors, asked))

    def run(rows: int) -> SampleRun:
        with temporary_folder() as folder:
            found = _random_index(folder, rows, _matrix(index.sample.slice(0, 1)))
            begin = time.monotonic()
            found.search(matrix, search.n_docs, memory_bytes=search.memory_bytes, device=search.device)
            return SampleRun(rows, time.monotonic() - begin, 0, 0)

    last, _ = grow(run, first_rows=_FIRST_VECTORS, sample_rows=_MOST_VECTORS, rows=index.rows)
    return scaled_search_seconds(last.seconds, (asked, last.rows), (questions, index.rows))


def scaled_search_seconds(seconds: float, measured: tuple[int, int], wanted: tuple[int, int]) -> float:
    """A search's time grows by questions times vectors, the two numbers of `measured` and `wanted`."""
    return seconds * math.prod(wanted) / math.prod(measured)


def _sample_index(folder: str, sample: pa.Table) -> MipsIndex:
    """The sample of an index as an index."""
    passages = sample.drop_columns(VECTOR).combine_chunks().to_batches()
    return _index(folder, sample.num_rows, _matrix(sample), zip(passages, [_matrix(sample)], strict=True))


def _random_index(folder: str, rows: int, like: np.ndarray) -> MipsIndex:
    """Random vectors of the dimension and precision of `like` ([n, D]), with no texts."""
    generator = np.random.default_rng(0)

    def batches() -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
        for begin in range(0, rows, _VECTORS_AT_ONCE):
            ids = np.arange(begin, min(begin + _VECTORS_AT_ONCE, rows))
            vectors = generator.random((len(ids), like.shape[1]), dtype=np.float32) - 0.5
            yield pa.record_batch({"passage_id": pa.array(ids).cast(pa.string())}), vectors.astype(like.dtype)

    return _index(folder, rows, like, batches())


def _index(
    folder: str, rows: int, like: np.ndarray, batches: Iterable[tuple[pa.RecordBatch, np.ndarray]]
) -> MipsIndex:
    """One shard as an index, with vectors of the dimension and precision of `like` ([n, D])."""
    shard = write_shard(
        STORAGE,
        folder,
        "sample",
        rows=rows,
        dimension=like.shape[1],
        vector_dtype=str(like.dtype),
        batches=batches,
    )
    return MipsIndex(STORAGE, folder, [shard], encoder={})


def _any_results(index: MipsIndex, questions: pa.Table, n_docs: int) -> pa.Table:
    """Results as a search would commit them: other passages for each question, the best first."""
    rows = np.arange(questions.num_rows * n_docs).reshape(-1, n_docs) % index.rows
    vectors = index.vectors(rows.reshape(-1)).reshape(*rows.shape, -1)  # [B, K, D]
    scores = np.einsum("bd,bkd->bk", _matrix(questions), vectors)
    order = np.argsort(-scores, axis=1)
    columns = [np.take_along_axis(values, order, axis=1).tolist() for values in (rows, scores)]
    return pa.table(columns, schema=TABLES["search_results"])


def _matrix(table: pa.Table) -> np.ndarray:
    """The vectors of a table, [N, D]."""
    return vector_matrix(table.column(VECTOR).combine_chunks(), "the sample")
