"""Chunking: some sources are read, cut and written for a few seconds; it grows by the bytes of all."""

import dataclasses
import math
import os
from collections.abc import Callable

from pipelines.dataset.unit import Unit
from pipelines.estimates.bounded_reading import BoundedReading, path_bytes
from pipelines.estimates.forecasts import SAMPLE_ROWS, Estimate, evenly
from pipelines.estimates.sample_run import made_rows, make, sample_target, temporary_folder
from pipelines.transforms.passages import ChunkCorpus, ReadSource, read_stored
from rag_core.corpus import Source, read_source


def estimate_chunking(
    sources: list[Source],
    work_on: Callable[[list[Source], ReadSource], ChunkCorpus],
    *,
    rows_per_part: int,
    workers: int,
) -> Estimate | None:
    """What the passages of the sources will take; None where their size cannot be told (a hub's data set).

    Args:
      sources: all of them.
      work_on: the stage's work on some of them, with a way to read them.
      rows_per_part: the most rows of a part.
      workers: local processes. Each cuts documents on one core, so that they add up until cores or
        units run out.
    """
    sizes = path_bytes({source.path for source in sources})
    if not all(sizes.values()):
        return None
    reading = BoundedReading(sources, read_source)
    with temporary_folder() as folder:
        target = sample_target(folder, "passages", unique=True)
        took = make(work_on(reading.sources, reading.records), None, target, rows=1)
        passages = made_rows(target)
    rows = round(passages.num_rows / reading.share)
    units = list(work_on(sources, read_stored).plan())
    return dataclasses.replace(took, rows=max(1, passages.num_rows)).estimate(
        rows,
        parts=_parts(units, sizes, rows / sum(sizes.values()), rows_per_part),
        processes=min(workers, os.cpu_count() or 1, len(units)),
        notes=() if reading.share == 1 else (f"from {reading.share:.2%} of the input",),
        sample=evenly(passages, min(SAMPLE_ROWS, passages.num_rows)),
    )


def _parts(units: list[Unit], sizes: dict[str, int], rows_per_byte: float, rows_per_part: int) -> int:
    """Parts of all sources, whose rows are taken to be as their bytes."""
    paths: dict[int, set[str]] = {}
    for unit in units:
        paths.setdefault(unit.source, set()).update(unit.origins)
    rows = [sum(sizes[path] for path in group) * rows_per_byte for group in paths.values()]
    return sum(max(1, math.ceil(count / rows_per_part)) for count in rows)
