"""Passages to vectors: the work of the `encode` stage."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.dataset.reader import Dataset
from pipelines.dataset.unit import Unit, UnitWriter
from pipelines.filesystems import STORAGE
from pipelines.transforms.models import PassageEncoderLoader
from pipelines.transforms.reuse import EarlierVectors, content_hashes
from pipelines.transforms.units import Work
from pipelines.transforms.vectors import keep_finite, naming_what_is_too_large, vector_column
from rag_core.device_memory import RecordTooLarge
from rag_core.encoders import PassageEncoder
from schemas.embeddings import embeddings_schema


@dataclass(frozen=True)
class Loaded:
    """What a process encodes with: the encoder, and the vectors that it need not compute."""

    encoder: PassageEncoder
    earlier: EarlierVectors | None


class EncodePassages(Work):
    """Encodes runs of rows of a passages part; vectors keep the rows' order.

    While the model computes one unit, another is read and tokenized, or written.
    """

    units_at_once = 2
    runs_model = True

    def __init__(
        self,
        passages: Dataset,
        loader: PassageEncoderLoader,
        *,
        unit_rows: int,
        batch_tokens: int,
        vector_dtype: str,
        earlier: Dataset | None = None,
    ):
        """`earlier` is an embeddings data set of the same encoder, whose vectors are taken where they fit."""
        self._passages = passages
        self._loader = loader
        self._unit_rows = unit_rows
        self._batch_tokens = batch_tokens
        self._vector_dtype = vector_dtype
        self._earlier = earlier

    def plan(self) -> Iterator[Unit]:
        for part, number, begin, end in self._passages.row_ranges(self._unit_rows):
            origins = (self._passages.parts[part].path,)
            yield Unit(part, number, {"part": part, "begin": begin, "end": end}, origins, records=end - begin)

    def load(self) -> Loaded:
        return Loaded(self._loader.load(), EarlierVectors(self._earlier) if self._earlier else None)

    def compute(self, unit: Unit, loaded: Loaded, writer: UnitWriter) -> None:
        part = self._passages.parts[unit.content["part"]]
        begin, end = unit.content["begin"], unit.content["end"]
        columns = ("passage_id", "title", "text")
        passages = pa.Table.from_batches(
            part.read(STORAGE, "passages", begin=begin, end=end, columns=columns)
        )
        ids, titles, texts = (passages.column(name).to_pylist() for name in columns)
        hashes = content_hashes(titles, texts)
        with naming_what_is_too_large("passage", ids, part.path, begin):
            vectors = self._vectors(titles, texts, hashes, loaded, writer)
        finite = keep_finite(
            vectors,
            writer,
            name="passage",
            ids=ids,
            texts=texts,
            source=part.path,
            begin=begin,
            remedy="--vector_dtype float32",
        )
        batch = vectors_batch(ids, vectors, hashes)
        writer.write(batch if finite.all() else batch.filter(pa.array(finite)))

    def _vectors(
        self,
        titles: list[str],
        texts: list[str],
        hashes: list[bytes],
        loaded: Loaded,
        writer: UnitWriter,
    ) -> np.ndarray:
        """The passages' vectors [N, D] as they are written, taken from the earlier run where it has them."""
        known = loaded.earlier.find(hashes) if loaded.earlier else np.full(len(texts), -1)
        new = np.flatnonzero(known < 0)
        vectors = np.empty((len(texts), loaded.encoder.dimension), dtype=self._vector_dtype)
        with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite, and is rejected
            try:
                vectors[new] = loaded.encoder.encode(
                    [titles[row] for row in new],
                    [texts[row] for row in new],
                    batch_tokens=self._batch_tokens,
                    on_rows=writer.read,
                )
            except RecordTooLarge as error:
                error.row = int(new[error.row])  # among all of the unit
                raise
        if loaded.earlier:
            reused = np.flatnonzero(known >= 0)
            if len(reused):
                vectors[reused] = loaded.earlier.take(known[reused])
            writer.read(len(reused))
            writer.counts.extra["reused"] += len(reused)
        return vectors


def vectors_batch(passage_ids: list[str], vectors: np.ndarray, hashes: list[bytes]) -> pa.RecordBatch:
    """Rows of the embeddings table; `vectors` is [N, D] of float16 or float32."""
    schema = embeddings_schema(vectors.shape[1], str(vectors.dtype))
    columns = [
        pa.array(passage_ids),
        vector_column(vectors),
        pa.array(hashes, schema.field("content_hash").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
