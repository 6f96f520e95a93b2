"""Finds records whose id was met before, in memory bounded by a bucket of hashes.

Each unit leaves its ids' hashes sorted (`unit.KEY_DTYPE`). A bucket is a range of hashes: its
slices of all units are read together, and of equal hashes the first in the data set's order stays.
Hashes have 128 bits: two ids of a billion share one with a probability below 1e-20.
"""

from dataclasses import dataclass

import numpy as np

from pipelines.dataset.target import Target
from pipelines.dataset.unit import KEY_DTYPE, KEYS_PER_RUN, UnitReport, unit_path
from rag_core.storage import Storage, join

_KEYS_PER_BUCKET = 4_000_000
_MAX_BUCKETS = 1 << 16

# A record to drop, with where the first of its id stands.
DUPLICATE_DTYPE = np.dtype(
    [
        *((name, "<i8") for name in ("unit_source", "unit_number", "row", "rows", "position", "source")),
        *(
            (name, "<i8")
            for name in ("first_unit_source", "first_unit_number", "first_position", "first_source")
        ),
    ]
)


@dataclass(frozen=True)
class Bucket:
    """The hashes in [begin, end) by their upper 64 bits, of all units: those are told apart, once for all buckets."""

    number: int
    begin: int
    end: int


def plan_buckets(reports: list[UnitReport]) -> list[Bucket]:
    """As many equal ranges of hashes as keep a bucket's keys in bounded memory."""
    keys = sum(report.counts.accepted for report in reports)
    count = min(_MAX_BUCKETS, -(-keys // _KEYS_PER_BUCKET))
    bounds = [(1 << 64) * index // count for index in range(count + 1)] if count else []
    return [Bucket(number, bounds[number], bounds[number + 1]) for number in range(count)]


def find_duplicates(storage: Storage, target: Target, bucket: Bucket, reports: list[UnitReport]) -> None:
    """Commits the bucket's duplicates among the units of `reports`, ordered by unit and row."""
    slices = []
    for report in reports:
        if report.counts.accepted:
            slices += _unit_slices(storage, target, report, bucket)
    keys = np.concatenate(slices) if slices else np.empty(0, dtype=_placed_dtype())
    # lexsort's last key is the first criterion: hash, then the data set's order
    order = np.lexsort((keys["row"], keys["unit_number"], keys["unit_source"], keys["low"], keys["high"]))
    keys = keys[order]
    same = np.zeros(len(keys), dtype=bool)
    same[1:] = (keys["high"][1:] == keys["high"][:-1]) & (keys["low"][1:] == keys["low"][:-1])
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(keys))))[same]
    duplicates = np.empty(int(same.sum()), dtype=DUPLICATE_DTYPE)
    for name in ("unit_source", "unit_number", "row", "rows", "position", "source"):
        duplicates[name] = keys[name][same]
    for name in ("unit_source", "unit_number", "position", "source"):
        duplicates[f"first_{name}"] = keys[name][first]
    duplicates.sort(order=["unit_source", "unit_number", "row"])
    with storage.create(_bucket_path(target, bucket.number)) as file:
        file.write(duplicates.tobytes())


def read_duplicates(storage: Storage, target: Target, buckets: int, source: int) -> np.ndarray:
    """The duplicates of one source (DUPLICATE_DTYPE), ordered by unit and row."""
    found = []
    for number in range(buckets):
        path = _bucket_path(target, number)
        if storage.size(path):
            with storage.held_locally(path) as local_path:
                duplicates = np.memmap(local_path, dtype=DUPLICATE_DTYPE, mode="r")
                begin, end = np.searchsorted(duplicates["unit_source"], [source, source + 1])
                found.append(np.array(duplicates[begin:end]))
    merged = np.concatenate(found) if found else np.empty(0, dtype=DUPLICATE_DTYPE)
    merged.sort(order=["unit_number", "row"])
    return merged


def _unit_slices(storage: Storage, target: Target, unit: UnitReport, bucket: Bucket) -> list[np.ndarray]:
    """The unit's keys whose hash lies in the bucket, each with its unit."""
    path = unit_path(target, unit, "keys")
    if not storage.size(path):
        return []
    with storage.held_locally(path) as local_path:
        return _bucket_slices(np.memmap(local_path, dtype=KEY_DTYPE, mode="r"), unit, bucket)


def _bucket_slices(keys: np.ndarray, unit: UnitReport, bucket: Bucket) -> list[np.ndarray]:
    slices = []
    for start in range(0, len(keys), KEYS_PER_RUN):
        run = keys[start : start + KEYS_PER_RUN]
        begin = int(np.searchsorted(run["high"], np.uint64(bucket.begin)))
        end = len(run) if bucket.end >= 1 << 64 else int(np.searchsorted(run["high"], np.uint64(bucket.end)))
        placed = np.empty(end - begin, dtype=_placed_dtype())
        for name in KEY_DTYPE.names or ():
            placed[name] = run[name][begin:end]
        placed["unit_source"], placed["unit_number"] = unit.source, unit.number
        slices.append(placed)
    return slices


def _placed_dtype() -> np.dtype:
    return np.dtype([*KEY_DTYPE.descr, ("unit_source", "<i8"), ("unit_number", "<i8")])


def _bucket_path(target: Target, number: int) -> str:
    return join(target.work_folder, "duplicates", f"{number:05d}.duplicates")
