"""Question files to questions with their vectors: the first half of the `retrieve` stage."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipelines.dataset.reader import open_dataset
from pipelines.dataset.unit import Unit, UnitWriter
from pipelines.filesystems import STORAGE
from pipelines.transforms.models import QuestionEncoderLoader
from pipelines.transforms.units import Work
from pipelines.transforms.vectors import keep_finite, naming_what_is_too_large, vector_column
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


class EncodeQuestions(Work):
    """Encodes the questions that `ReadQuestions` committed."""

    runs_model = True

    def __init__(
        self, questions_folder: str, loader: QuestionEncoderLoader, *, unit_rows: int, batch_tokens: int
    ):
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

    def load(self) -> "QuestionEncoder":
        return self._loader.load()

    def compute(self, unit: Unit, loaded: "QuestionEncoder", writer: UnitWriter) -> None:
        questions = open_dataset(STORAGE, self._questions_folder, "questions")
        part = questions.parts[unit.source]
        begin = unit.content["begin"]
        for batch in part.read(
            STORAGE, "questions", begin=begin, end=unit.content["end"], batch_rows=self._unit_rows
        ):
            ids, texts = (batch.column(name).to_pylist() for name in ("question_id", "question"))
            with naming_what_is_too_large("question", ids, part.path, begin):
                vectors = loaded.encode(texts, batch_tokens=self._batch_tokens, on_rows=writer.read)
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


def _questions_batch(rows: list[Question]) -> pa.RecordBatch:
    columns = [[getattr(row, name) for row in rows] for name in TABLES["questions"].names]
    arrays = [
        pa.array(values, column.type) for values, column in zip(columns, TABLES["questions"], strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=TABLES["questions"])


def _with_vectors(batch: pa.RecordBatch, vectors: np.ndarray) -> pa.RecordBatch:
    schema = question_vectors_schema(vectors.shape[1])
    return pa.RecordBatch.from_arrays([*batch.columns, vector_column(vectors)], schema=schema)
