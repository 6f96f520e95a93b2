"""Passages to vectors: the work of the `encode` stage."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from pipelines.dataset.reader import Dataset
from pipelines.dataset.unit import Unit, UnitWriter
from pipelines.filesystems import STORAGE
from pipelines.transforms.models import PassageEncoderLoader
from pipelines.transforms.units import Work
from pipelines.transforms.vectors import vector_column
from rag_core.encoders import PassageEncoder
from rag_core.records import Reject, RejectReason
from schemas.embeddings import embeddings_schema


class EncodePassages(Work):
    """Encodes runs of rows of a passages part; vectors keep the rows' order."""

    def __init__(
        self,
        passages: Dataset,
        loader: PassageEncoderLoader,
        *,
        unit_rows: int,
        batch_tokens: int,
        vector_dtype: str,
    ):
        self._passages = passages
        self._loader = loader
        self._unit_rows = unit_rows
        self._batch_tokens = batch_tokens
        self._vector_dtype = vector_dtype

    def plan(self) -> Iterator[Unit]:
        for part, number, begin, end in self._passages.row_ranges(self._unit_rows):
            origins = (self._passages.parts[part].path,)
            yield Unit(part, number, {"part": part, "begin": begin, "end": end}, origins, records=end - begin)

    def load(self) -> PassageEncoder:
        return self._loader.load()

    def compute(self, unit: Unit, loaded: PassageEncoder, writer: UnitWriter) -> None:
        part = self._passages.parts[unit.content["part"]]
        begin, end = unit.content["begin"], unit.content["end"]
        ids: list[str] = []
        titles: list[str] = []
        texts: list[str] = []
        for batch in part.read(STORAGE, "passages", begin=begin, end=end):
            ids += batch.column("passage_id").to_pylist()
            titles += batch.column("title").to_pylist()
            texts += batch.column("text").to_pylist()
        vectors = loaded.encode(titles, texts, batch_tokens=self._batch_tokens, on_rows=writer.read)
        vectors = vectors.astype(self._vector_dtype)
        finite = np.isfinite(vectors).all(axis=1)
        for row in np.flatnonzero(~finite):
            writer.reject(
                Reject(
                    source=part.path,
                    position=begin + int(row),
                    reason=RejectReason.NOT_FINITE,
                    message=f"the encoder's vector of passage {ids[row]!r} holds NaN or infinity as "
                    f"{self._vector_dtype}; look at the text, or try --vector_dtype float32",
                    record_id=ids[row],
                    excerpt=texts[row],
                )
            )
        kept = np.flatnonzero(finite)
        writer.accept(len(kept))
        writer.write(vectors_batch([ids[row] for row in kept], vectors[kept]))


def vectors_batch(passage_ids: list[str], vectors: np.ndarray) -> pa.RecordBatch:
    """Rows of the embeddings table; `vectors` is [N, D] of float16 or float32."""
    schema = embeddings_schema(vectors.shape[1], str(vectors.dtype))
    return pa.RecordBatch.from_arrays(
        [pa.array(passage_ids, pa.string()), vector_column(vectors)], schema=schema
    )
