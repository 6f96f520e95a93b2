"""Indexing: shards of vectors and passages are written; it grows by rows. And what an index holds."""

import math
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from pipelines.dataset.reader import Dataset
from pipelines.estimates.forecasts import SAMPLE_ROWS, Estimate, Forecast, Forecasts, evenly
from pipelines.estimates.sample_run import (
    SampleRun,
    folder_bytes,
    grow,
    make,
    sample_target,
    stored,
    temporary_folder,
)
from pipelines.transforms.index_build import ENTRIES_SCHEMA
from pipelines.transforms.index_manifest import index_manifest
from pipelines.transforms.search import open_index
from pipelines.transforms.shards import BuildShards
from pipelines.transforms.vectors import vector_column
from rag_core.mips.factory import EXACT
from rag_core.storage import join

_FIRST_ROWS = 500
_FILES_OF_A_SHARD = 2
VECTOR = "vector"  # the column of an index's sample that holds what the passages lack


def estimate_indexing(
    embeddings: Forecast,
    passages: Forecast,
    work_on: Callable[[str, Dataset, Dataset], BuildShards],
    *,
    factory: str,
    shard_rows: int,
) -> Estimate:
    """What an exact index of the embeddings will take.

    Args:
      embeddings: their vectors are taken for those of any passages: only their size matters.
      passages: what was encoded.
      work_on: the shards' work for an index's folder, embeddings and passages.
      factory: one other than exact costs more, which is noted.
      shard_rows: the most rows of a shard.
    """

    def run(rows: int) -> SampleRun:
        with temporary_folder() as folder:
            texts = evenly(passages.sample, rows)
            vectors = evenly(embeddings.sample, rows).set_column(0, "passage_id", texts.column("passage_id"))
            target = sample_target(folder, "shards", ENTRIES_SCHEMA)
            index = join(folder, "index")
            work = work_on(index, stored(folder, "embeddings", vectors), stored(folder, "passages", texts))
            took = make(work, set(), target, rows)
            return SampleRun(rows, took.seconds, 0, folder_bytes(index))

    last, sized = grow(
        run, first_rows=_FIRST_ROWS, sample_rows=passages.sample.num_rows, rows=embeddings.rows
    )
    notes = () if factory == EXACT else ("training, tuning and codes not included",)
    parts = _FILES_OF_A_SHARD * math.ceil(embeddings.rows / shard_rows)
    sample = passages.sample.append_column(
        VECTOR, evenly(embeddings.sample, passages.sample.num_rows).column("vector")
    )
    return last.estimate(embeddings.rows, parts=parts, sized=sized, notes=notes, sample=sample)


def forecast_index(forecasts: Forecasts, folder: str) -> Forecast:
    """What an index holds, or will hold: a sample of its passages with the column `VECTOR`.

    Raises:
      UsageError: there is no finished index, and no step of the plan makes it.
    """
    estimated = forecasts.estimated(folder)
    if estimated is not None:
        return estimated
    index = open_index(folder)
    dtype = index_manifest(folder).details["index"]["vector_dtype"]
    first_shard = index.shards[0].rows  # a shard is hashed before a row of it is read
    rows = np.linspace(0, first_shard - 1, min(SAMPLE_ROWS, first_shard)).astype(int)
    vectors = vector_column(index.vectors(rows).astype(dtype))
    sample = index.passages(rows).append_column(VECTOR, pa.chunked_array([vectors]))
    return Forecast(index.live_rows, len(index.shards), sample)
