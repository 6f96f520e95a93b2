"""What grows with the corpus and has a ceiling somewhere: lists that travel whole, files, one machine's disk."""

import hashlib
import math
import pickle
from collections.abc import Mapping

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from pipelines.dataset.ledger import Counts
from pipelines.dataset.reader import Dataset, Part
from pipelines.dataset.target import Target
from pipelines.dataset.unit import UnitReport
from pipelines.transforms.embeddings import EncodePassages
from pipelines.transforms.models import PassageEncoderLoader
from pipelines.transforms.units import MakeDataset

_FOLDER = "gs://a-bucket-of-some-length/runs/2026-01-31/passages"


def limits(passages: int, inputs: Mapping[str, float]) -> list[tuple[str, float, str]]:
    """What grows with the corpus and has a ceiling: name, value, unit."""
    parts = math.ceil(passages / inputs["rows_per_part"])
    units = encoding_units(passages, inputs)
    shards = math.ceil(passages / inputs["shard_rows"])
    buckets = math.ceil(passages / inputs["keys_per_bucket"])
    sources = math.ceil(passages * inputs["corpus_bytes"] / inputs["chunk_unit_bytes"])
    return [
        ("graph of encode, as it is submitted", graph_bytes(parts), "bytes"),
        ("reports that one worker holds at encode's end", units * report_bytes(), "bytes, pickled"),
        ("work files of encode before they are parts", 2 * units, "files"),
        ("opened by one machine or another to find duplicate ids", buckets * sources, "files"),
        ("hashes of ids that a machine copies for that", 48 * passages, "bytes"),
        ("duplicates' files looked at to write the parts", buckets * parts, "files"),
        ("vectors of an exact search, a block of questions", 2 * passages * inputs["dimension"], "bytes"),
        (
            "texts beside them, on a machine that takes passages",
            passages * inputs["stored_passage_bytes"],
            "bytes",
        ),
        ("shards of the index", shards, ""),
    ]


def graph_bytes(parts: int) -> int:
    """Of the graph of encode with so many parts of passages: their names and hashes travel in it."""
    names = [f"part-00000-{number:05d}.parquet" for number in range(parts)]
    hashes = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    passages = Dataset(
        _FOLDER,
        "passages",
        [Part(f"{_FOLDER}/{name}", 50_000, digest) for name, digest in zip(names, hashes, strict=True)],
        hashes[0],
    )
    target = Target(
        "gs://a-bucket/embeddings", "embeddings", "encode", {}, [passages.as_input()], part_names=tuple(names)
    )
    loader = PassageEncoderLoader(
        "an/encoder", device="auto", dtype="auto", allow_pickle=False, num_threads=1
    )
    work = EncodePassages(passages, loader, unit_rows=2_000, batch_tokens=2_048, vector_dtype="float16")
    pipeline = beam.Pipeline(runner=FnApiRunner())
    _ = pipeline | beam.Create(["start"]) | MakeDataset(target, work)
    return pipeline.to_runner_api().ByteSize()


def report_bytes() -> int:
    """Of a unit's report, pickled as it crosses between steps."""
    return len(pickle.dumps(UnitReport(12_345, 7, 2_000, Counts(2_000, 2_000, rows_written=2_000))))


def encoding_units(passages: int, inputs: Mapping[str, float]) -> int:
    """Units of encode: a unit never crosses a part."""
    whole, rest = divmod(passages, int(inputs["rows_per_part"]))
    return whole * math.ceil(inputs["rows_per_part"] / inputs["encode_unit"]) + math.ceil(
        rest / inputs["encode_unit"]
    )
