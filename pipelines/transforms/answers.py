"""Retrievals to answers and labels: the work of the `generate` and `classify` stages."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.dataset.ledger import Counts
from pipelines.dataset.reader import Dataset
from pipelines.dataset.unit import Unit, UnitWriter
from pipelines.filesystems import STORAGE
from pipelines.transforms.kept import EarlierResults, retrieval_hash
from pipelines.transforms.models import GeneratorLoader
from pipelines.transforms.units import Work
from rag_core.answers import Answer, DecodingSettings, RetrievedQuestion, Unanswered
from rag_core.classification import LabelDistribution, LabelSet, classify_questions
from rag_core.context import PassageText
from rag_core.decoding import generate_answers
from rag_core.device_memory import RecordTooLarge
from rag_core.errors import RagBeamError
from rag_core.generator import Generator
from rag_core.records import Reject, RejectReason
from schemas import TABLES


@dataclass(frozen=True)
class Loaded:
    """What a process answers with: the generator, and the rows that it need not compute."""

    generator: Generator
    earlier: EarlierResults | None


class RetrievalWork(Work):
    """Walks over retrievals: what generating and classifying share."""

    runs_model = True
    table: str

    def __init__(
        self,
        retrievals: Dataset,
        loader: GeneratorLoader,
        *,
        n_docs: int | None,
        unit_rows: int,
        own_batches: bool = False,
        earlier: Dataset | None = None,
    ):
        """What generating and classifying share.

        Args:
          own_batches: no batch holds two questions, so that no bit of a row depends on the others.
          earlier: a data set that this work made before, whose rows are taken where the retrieval is the same.
        """
        self._retrievals = retrievals
        self._loader = loader
        self._n_docs = n_docs
        self._unit_rows = unit_rows
        self._own_batches = own_batches
        self._earlier = earlier

    def plan(self) -> Iterator[Unit]:
        for part, number, begin, end in self._retrievals.row_ranges(self._unit_rows):
            origins = (self._retrievals.parts[part].path,)
            yield Unit(part, number, {"begin": begin, "end": end}, origins, records=end - begin)

    def load(self) -> Loaded:
        return Loaded(self._loader.load(), EarlierResults(self._earlier) if self._earlier else None)

    def compute(self, unit: Unit, loaded: Loaded, writer: UnitWriter) -> None:
        part = self._retrievals.parts[unit.source]
        begin = unit.content["begin"]
        for batch in part.read(
            STORAGE, "retrievals", begin=begin, end=unit.content["end"], batch_rows=self._unit_rows
        ):
            rows = batch.to_pylist()
            self._compute_rows(rows, loaded, writer, part.path, begin)
            begin += len(rows)

    def _compute_rows(
        self, rows: list[dict[str, Any]], loaded: Loaded, writer: UnitWriter, path: str, begin: int
    ) -> None:
        writer.read(len(rows))
        usable = []
        for number, row in enumerate(rows):
            row["passages"] = row["passages"][: self._n_docs]
            if row["passages"] or self._n_docs == 0:
                usable.append((begin + number, row, retrieval_hash(row)))
            else:
                message = (
                    "has no passages; retrieve some, or pass --n_docs 0 for answers from the question alone"
                )
                writer.reject(_reject(path, begin + number, row, RejectReason.NO_PASSAGES, message))
        known = loaded.earlier.find([content for *_, content in usable]) if loaded.earlier else None
        kept = np.zeros(len(usable), dtype=bool) if known is None else known >= 0
        asked = [usable[place] for place in np.flatnonzero(~kept)]
        try:
            results = self._decide([_retrieved_question(row) for _, row, _ in asked], loaded.generator)
        except RecordTooLarge as error:
            position, row, _ = asked[error.row]
            raise RagBeamError(
                f"{path}: row {position}: question {row['question_id']!r} {error.told}; use fewer --n_docs, or lower "
                "--max_input_tokens, or give another --device"
            ) from error
        written, places = [], []
        for place, (position, row, content), result in zip(
            np.flatnonzero(~kept), asked, results, strict=True
        ):
            if isinstance(result, Unanswered):
                writer.reject(_reject(path, position, row, result.reason, result.message))
            else:
                written.append(self.row(row, result) | {"retrieval_hash": content})
                places.append(place)
                self.count(result, writer.counts)
        batch = pa.RecordBatch.from_pylist(written, schema=TABLES[self.table])
        if loaded.earlier is not None and known is not None:
            taken = np.flatnonzero(kept)
            writer.counts.extra["reused"] += len(taken)
            if len(taken):
                ids = [usable[place][1]["question_id"] for place in taken]
                both = pa.concat_batches([batch, loaded.earlier.take(known[taken], ids)])
                batch = both.take(pa.array(np.argsort([*places, *taken])))
        writer.accept(batch.num_rows)
        writer.write(batch)

    def _decide(self, questions: list[RetrievedQuestion], generator: Generator) -> list[Any]:
        """A result a question, each in batches of its own where that is asked for."""
        if not self._own_batches:
            return self.decide(questions, generator)
        results = []
        for row, question in enumerate(questions):
            try:
                results += self.decide([question], generator)
            except RecordTooLarge as error:
                error.row = row  # among all of them
                raise
        return results

    @abstractmethod
    def decide(self, questions: list[RetrievedQuestion], generator: Generator) -> list[Any]:
        """A result a question, or `Unanswered`."""

    def count(self, result: Any, counts: Counts) -> None:
        """Adds what the manifest counts beside records; nothing, unless a stage has something to count."""

    @abstractmethod
    def row(self, retrieval: dict[str, Any], result: Any) -> dict[str, Any]:
        """The result as a row of the table."""


class GenerateAnswers(RetrievalWork):
    """Answers questions from their passages."""

    table = "answers"

    def __init__(
        self,
        retrievals: Dataset,
        loader: GeneratorLoader,
        decoding: DecodingSettings,
        *,
        n_docs: int | None,
        unit_rows: int,
        passage_texts: bool,
        own_batches: bool = False,
        earlier: Dataset | None = None,
    ):
        super().__init__(
            retrievals, loader, n_docs=n_docs, unit_rows=unit_rows, own_batches=own_batches, earlier=earlier
        )
        self._decoding = decoding
        self._passage_texts = passage_texts

    def decide(self, questions: list[RetrievedQuestion], generator: Generator) -> list[Answer | Unanswered]:
        return generate_answers(generator, questions, self._decoding)

    def count(self, result: Answer, counts: Counts) -> None:
        counts.extra["pair_scorings"] += result.pair_scorings
        counts.extra["pair_scorings_saved"] += result.pair_scorings_saved

    def row(self, retrieval: dict[str, Any], result: Answer) -> dict[str, Any]:
        passages = [
            passage
            | {
                "text": passage["text"] if self._passage_texts else None,
                "prior": float(prior),
                "log_prob": None if np.isnan(log_prob) else float(log_prob),
                "posterior": float(posterior),
            }
            for passage, prior, log_prob, posterior in zip(
                retrieval["passages"], result.prior, result.passage_log_probs, result.posterior, strict=True
            )
        ]
        tokens = result.tokens and [
            {"token": token.token, "log_prob": token.log_prob, "posterior": token.posterior.tolist()}
            for token in result.tokens
        ]
        return {
            "question_id": retrieval["question_id"],
            "question": retrieval["question"],
            "answer": result.answer,
            "log_prob": result.log_prob,
            "finish_reason": result.finish_reason,
            "candidates": [
                {"answer": candidate.answer, "log_prob": candidate.log_prob}
                for candidate in result.candidates
            ],
            "passages": passages,
            "tokens": tokens,
            "answer_bound": result.answer_bound,
        }


class ClassifyQuestions(RetrievalWork):
    """Gives claims a label from their passages."""

    table = "labels"

    def __init__(
        self,
        retrievals: Dataset,
        loader: GeneratorLoader,
        label_set: tuple[str, ...],
        *,
        n_docs: int | None,
        unit_rows: int,
        batch_tokens: int,
        own_batches: bool = False,
        earlier: Dataset | None = None,
    ):
        super().__init__(
            retrievals, loader, n_docs=n_docs, unit_rows=unit_rows, own_batches=own_batches, earlier=earlier
        )
        self._labels = LabelSet.parse(label_set)
        self._batch_tokens = batch_tokens

    def decide(
        self, questions: list[RetrievedQuestion], generator: Generator
    ) -> list[LabelDistribution | Unanswered]:
        return classify_questions(generator, questions, self._labels, batch_tokens=self._batch_tokens)

    def row(self, retrieval: dict[str, Any], result: LabelDistribution) -> dict[str, Any]:
        passages = [
            passage
            | {"prior": float(prior), "posterior": float(posterior), "label_probs": label_probs.tolist()}
            for passage, prior, posterior, label_probs in zip(
                retrieval["passages"], result.prior, result.posterior, result.passage_label_probs, strict=True
            )
        ]
        return {
            "question_id": retrieval["question_id"],
            "question": retrieval["question"],
            "label": result.label,
            "label_probs": [
                {"label": label, "prob": float(prob), "log_prob": float(log_prob)}
                for label, prob, log_prob in zip(
                    self._labels.labels, result.probs, result.log_probs, strict=True
                )
            ],
            "passages": passages,
        }


def _retrieved_question(row: dict[str, Any]) -> RetrievedQuestion:
    return RetrievedQuestion(
        question=row["question"],
        passages=tuple(PassageText(passage["title"], passage["text"]) for passage in row["passages"]),
        scores=np.array([passage["score"] for passage in row["passages"]], dtype=np.float32),
    )


def _reject(path: str, position: int, row: dict[str, Any], reason: RejectReason, message: str) -> Reject:
    return Reject(
        source=path,
        position=position,
        reason=reason,
        message=f"question {row['question_id']!r} {message}",
        record_id=row["question_id"],
        excerpt=row["question"],
    )
