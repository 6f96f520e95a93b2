"""Question files to questions with their vectors: the first half of the `retrieve` stage."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipelines.dataset.reader import Dataset, open_dataset
from pipelines.dataset.unit import Unit, UnitWriter
from pipelines.filesystems import STORAGE
from pipelines.transforms.models import QuestionEncoderLoader
from pipelines.transforms.reuse import EarlierVectors
from pipelines.transforms.units import Work
from pipelines.transforms.vectors import keep_finite, naming_what_is_too_large, vector_column
from rag_core.device_memory import RecordTooLarge
from rag_core.questions import QuestionSource, read_question_source
from rag_core.records import Question
from schemas import TABLES
from schemas.question_vectors import question_vectors_schema

if TYPE_CHECKING:  # late: tuning an index may read questions, most indexes are built without a model
    from rag_core.encoders import QuestionEncoder

_BATCH_ROWS = 10_000


class ReadQuestions(Work):
    """Reads question files into the questions table."""

    def __init__(self, sources: list[QuestionSource]):
        self._sources = sources

    def plan(self) -> Iterator[Unit]:
        for ordinal, source in enumerate(self._sources):
            yield Unit(ordinal, 0, {"source": dataclasses.asdict(source)}, (source.path,))

    def compute(self, unit: Unit, loaded: Any, writer: UnitWriter) -> None:
        rows: list[Question] = []
        for question in writer.accepted(read_question_source(STORAGE, self._sources[unit.source])):
            writer.key(question.question_id, rows=1, position=question.position)
            rows.append(question)
            if len(rows) >= _BATCH_ROWS:
                writer.write(_questions_batch(rows))
                rows.clear()
        writer.write(_questions_batch(rows))


@dataclass(frozen=True)
class Loaded:
    """What a process encodes with: the encoder, and the vectors that it need not compute."""

    encoder: "QuestionEncoder"
    earlier: Sequence[EarlierVectors]


class EncodeQuestions(Work):
    """Encodes the questions that `ReadQuestions` committed."""

    runs_model = True

    def __init__(
        self,
        questions_folder: str,
        loader: QuestionEncoderLoader,
        *,
        unit_rows: int,
        batch_tokens: int,
        earlier: tuple[Dataset, ...] = (),
    ):
        """`earlier` are question vectors of the same encoder, which are taken for questions of the same text."""
        self._earlier = earlier
        self._questions_folder = questions_folder
        self._loader = loader
        self._unit_rows = unit_rows
        self._batch_tokens = batch_tokens

    def plan(self) -> Iterator[Unit]:
        questions = open_dataset(STORAGE, self._questions_folder, "questions")
        for part, number, begin, end in questions.row_ranges(self._unit_rows):
            origins = (questions.parts[part].path,)
            yield Unit(
                part, number, {"path": origins[0], "begin": begin, "end": end}, origins, records=end - begin
            )

    def load(self) -> Loaded:
        return Loaded(self._loader.load(), [EarlierVectors(vectors, "question") for vectors in self._earlier])

    def compute(self, unit: Unit, loaded: Loaded, writer: UnitWriter) -> None:
        questions = open_dataset(STORAGE, self._questions_folder, "questions")
        part = questions.parts[unit.source]
        begin = unit.content["begin"]
        for batch in part.read(
            STORAGE, "questions", begin=begin, end=unit.content["end"], batch_rows=self._unit_rows
        ):
            ids, texts = (batch.column(name).to_pylist() for name in ("question_id", "question"))
            with naming_what_is_too_large("question", ids, part.path, begin):
                vectors = self._vectors(texts, loaded, writer)
            finite = keep_finite(
                vectors,
                writer,
                name="question",
                ids=ids,
                texts=texts,
                source=part.path,
                begin=begin,
                remedy="--dtype float32",
            )
            writer.write(_with_vectors(batch, vectors).filter(pa.array(finite)))
            begin += batch.num_rows

    def _vectors(self, texts: list[str], loaded: Loaded, writer: UnitWriter) -> np.ndarray:
        """The questions' vectors, float32 [N, D], taken from an earlier run where one has them."""
        vectors = np.empty((len(texts), loaded.encoder.dimension), dtype=np.float32)
        new = np.arange(len(texts))
        for earlier in loaded.earlier:
            known = earlier.find([texts[row] for row in new])
            there = known >= 0
            if there.any():
                vectors[new[there]] = earlier.take(known[there])
            new = new[~there]
        reused = len(texts) - len(new)
        if reused:
            writer.read(reused)
            writer.counts.extra["reused"] += reused
        try:
            vectors[new] = loaded.encoder.encode(
                [texts[row] for row in new], batch_tokens=self._batch_tokens, on_rows=writer.read
            )
        except RecordTooLarge as error:
            error.row = int(new[error.row])  # among all of the unit
            raise
        return vectors


def _questions_batch(rows: list[Question]) -> pa.RecordBatch:
    columns = [[getattr(row, name) for row in rows] for name in TABLES["questions"].names]
    arrays = [
        pa.array(values, column.type) for values, column in zip(columns, TABLES["questions"], strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=TABLES["questions"])


def _with_vectors(batch: pa.RecordBatch, vectors: np.ndarray) -> pa.RecordBatch:
    schema = question_vectors_schema(vectors.shape[1])
    return pa.RecordBatch.from_arrays([*batch.columns, vector_column(vectors)], schema=schema)
