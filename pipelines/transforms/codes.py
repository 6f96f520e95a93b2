"""From stored vectors to FAISS codes with a stated price: training, filling, measuring."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.dataset.reader import open_dataset
from pipelines.dataset.unit import Unit, UnitWriter
from pipelines.filesystems import STORAGE
from pipelines.transforms.index_build import IndexBuild, entry_batch
from pipelines.transforms.models import limit_threads
from pipelines.transforms.units import Work
from pipelines.transforms.vectors import vector_matrix
from rag_core.errors import UsageError
from rag_core.mips.approximate import Effort
from rag_core.mips.auto import AUTO, choose_factory
from rag_core.mips.checksums import FileChecksum
from rag_core.mips.codes import TRAINED_FILE, fill_shard, sample_rows, train, write_faiss
from rag_core.mips.factory import EXACT, Factory
from rag_core.mips.index import MipsIndex
from rag_core.mips.price import RECALL_AT, Price, recall
from rag_core.mips.shard import ShardInfo
from rag_core.mips.tuning import Sample, choose_effort, table, tune
from rag_core.peak_memory import PeakMemory
from rag_core.storage import join

LEAST_RECALL = 0.95  # tuned for where nobody asks for another


@dataclass(frozen=True)
class Measuring:
    """How an index is tuned and its price measured.

    Attributes:
      questions_folder: question vectors, a data set; None: rows of the index are sampled.
      n_questions: how many to tune on, and how many others to measure by.
      min_recall: the floor; None: none, tuned for 0.95.
      recall_at: K of the floor.
      memory_bytes: what searching the index may take.
      num_threads: CPU threads of the worker.
    """

    questions_folder: str | None
    n_questions: int
    min_recall: float | None
    recall_at: int
    memory_bytes: int
    num_threads: int

    @property
    def wanted_recall(self) -> float:
        return LEAST_RECALL if self.min_recall is None else self.min_recall

    def questions(self) -> np.ndarray | None:
        """The given question vectors, float32 [B, D], in an order that mixes them; None without."""
        if self.questions_folder is None:
            return None
        questions = open_dataset(STORAGE, self.questions_folder, "question_vectors")
        vectors = np.concatenate(
            [vector_matrix(batch.column("vector"), questions.path) for batch in questions.read(STORAGE)]
        )
        return vectors[np.random.default_rng(0).permutation(len(vectors))]

    def halves(self, index: MipsIndex) -> tuple[Sample, Sample, str]:
        """A sample to tune on, one of other questions to measure by, and where they came from."""
        live = index.live
        questions, source = self.questions(), "--questions"
        if questions is None:
            drawn = live[sample_rows(len(live), 2 * self.n_questions, seed=1)]
            drawn = np.random.default_rng(2).permutation(drawn)
            questions, source = index.vectors(drawn), "the index's own vectors, each without itself"
        else:
            questions = questions[: 2 * self.n_questions]
            drawn = np.full(len(questions), -1)
        middle = -(-len(questions) // 2) if len(questions) > 1 else 0
        n_docs = max(*RECALL_AT, self.recall_at)
        sample = Sample.take(index, questions, drawn, n_docs, self.memory_bytes)
        return sample.part(slice(0, middle)), sample.part(slice(middle, None)), source


class TrainFactory(Work):
    """Trains an empty FAISS index on vectors drawn from all shards; settles `auto` before."""

    def __init__(self, build: IndexBuild, measuring: Measuring, train_rows: int | None):
        self._build = build
        self._measuring = measuring
        self._train_rows = train_rows

    def plan(self) -> Iterator[Unit]:
        shards = [shard.to_json() for shard in self._build.new_shards()]
        yield Unit(0, 0, {"shards": shards}, (self._build.folder,), records=1)

    def compute(self, unit: Unit, loaded: Any, writer: UnitWriter) -> None:
        limit_threads(self._measuring.num_threads)
        index = self._build.open_exact()
        began = time.perf_counter()
        text, choice = self._build.factory, []
        if text == AUTO:
            text, trials = choose_factory(
                index,
                self._measuring.questions(),
                n_questions=self._measuring.n_questions,
                memory_bytes=self._measuring.memory_bytes,
                min_recall=self._measuring.wanted_recall,
                recall_at=self._measuring.recall_at,
            )
            choice = [trial.to_json() for trial in trials]
            for line in table(trials, self._measuring.recall_at):
                print(f"index: {line}")
            print(f"index: --factory auto is {text}", flush=True)
        training: dict[str, Any] = {"factory": text, "choice": choice}
        with PeakMemory() as memory:
            if text != EXACT:
                training["trained"] = self._trained(index, text).to_json()
        seconds = time.perf_counter() - began
        writer.write(entry_batch({"training": training, "seconds": seconds, "peak_bytes": memory.anonymous}))

    def _trained(self, index: MipsIndex, text: str) -> FileChecksum:
        factory = Factory.parse(text, index.dimension)
        wanted = self._train_rows or factory.train_rows_wanted()
        rows = sample_rows(index.rows, wanted) if factory.train_rows_required() else np.arange(0)
        trained = train(factory, index.vectors(rows))
        return write_faiss(STORAGE, join(self._build.folder, TRAINED_FILE), trained)


class FillCodes(Work):
    """Fills a copy of the trained FAISS index with a shard's vectors."""

    def __init__(self, build: IndexBuild, num_threads: int):
        self._build = build
        self._num_threads = num_threads

    def plan(self) -> Iterator[Unit]:
        if not self._build.trains:
            return
        trained = self._build.training()["trained"]
        for number, shard in enumerate(self._build.new_shards()):
            content = {"shard": shard.to_json(), "trained": trained}
            yield Unit(
                0, number, content, (join(self._build.folder, shard.vectors_file),), records=shard.rows
            )

    def compute(self, unit: Unit, loaded: Any, writer: UnitWriter) -> None:
        limit_threads(self._num_threads)
        info = ShardInfo.from_json(unit.content["shard"])
        trained = FileChecksum.from_json(unit.content["trained"], TRAINED_FILE)
        began = time.perf_counter()
        with PeakMemory() as memory:
            filled = fill_shard(STORAGE, self._build.folder, info, trained)
        writer.read(info.rows)
        writer.accept(info.rows)
        writer.write(
            entry_batch(
                {
                    "name": info.name,
                    "codes": filled.files[filled.codes_file].to_json(),
                    "trained_sha256": filled.trained_sha256,
                    "seconds": time.perf_counter() - began,
                    "peak_bytes": memory.anonymous,
                }
            )
        )


class MeasurePrice(Work):
    """Tunes how hard the finished index looks, and measures what it misses."""

    def __init__(self, build: IndexBuild, measuring: Measuring):
        self._build = build
        self._measuring = measuring

    def plan(self) -> Iterator[Unit]:
        if self._build.trains:
            shards = self._build.description()["shards"]
            yield Unit(0, 0, {"shards": shards}, (self._build.folder,), records=1)

    def compute(self, unit: Unit, loaded: Any, writer: UnitWriter) -> None:
        limit_threads(self._measuring.num_threads)
        description = self._build.description()
        index = MipsIndex.open(STORAGE, self._build.folder, description | {"effort": Effort().to_json()})
        factory = Factory.parse(description["factory"], index.dimension)
        tuned, measured, source = self._measuring.halves(index)
        trials = tune(
            index,
            factory,
            tuned,
            min_recall=self._measuring.wanted_recall,
            recall_at=self._measuring.recall_at,
            memory_bytes=self._measuring.memory_bytes,
        )
        best = choose_effort(trials, self._measuring.wanted_recall)
        for line in table(trials, self._measuring.recall_at):
            print(f"index: {line}")
        if self._measuring.min_recall is not None and best.recall < self._measuring.min_recall:
            raise UsageError(
                f"--factory {factory.text}: reaches recall@{self._measuring.recall_at} {best.recall:.4f} on "
                f"{len(tuned.questions)} questions, --min_recall asks for {self._measuring.min_recall:g}; give a "
                "factory with larger codes or ,RFlat, or a lower floor"
            )
        assert best.effort is not None  # only the exact search has none
        found = measured.search(index, best.effort, max(RECALL_AT), self._measuring.memory_bytes)
        steps = [*self._build.entries("training"), *self._build.entries("codes")]
        base = self._build.base
        before = base["price"] if base else {"build_seconds": 0.0, "peak_bytes": 0}
        price = Price(
            questions=source,
            recalls=[recall(found, measured.exact, k) for k in RECALL_AT],
            code_bytes_per_vector=index.code_bytes / index.rows,
            stored_bytes_per_vector=index.dimension * np.dtype(description["vector_dtype"]).itemsize,
            build_seconds=before["build_seconds"] + sum(step["seconds"] for step in steps),
            peak_bytes=max([before["peak_bytes"], *(step["peak_bytes"] for step in steps)]),
        )
        writer.write(
            entry_batch(
                {
                    "effort": best.effort.to_json(),
                    "tuning": [trial.to_json() for trial in trials],
                    "price": price.to_json(),
                }
            )
        )
