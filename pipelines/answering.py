"""Options that the stages with a generator share: `generate` and `classify`."""

from collections.abc import Callable
from typing import Any

from pipelines.dataset.manifest import Input
from pipelines.dataset.reader import Dataset, open_dataset
from pipelines.dataset.target import Target
from pipelines.estimates.forecasts import Estimate, Forecasts
from pipelines.estimates.rows import devices_used, estimate_rows
from pipelines.filesystems import STORAGE
from pipelines.options import ModelSettings, option
from pipelines.transforms.answers import Loaded, RetrievalWork
from pipelines.transforms.kept import open_earlier_results
from pipelines.transforms.models import GeneratorLoader, threads_per_worker
from rag_core.answers import DEFAULT_BATCH_TOKENS
from rag_core.model_files import model_fingerprint, resolve_device, resolve_dtype, resolve_model

# what an estimate answers first, and for how long: questions side by side are quicker than one by one
_FIRST_QUESTIONS, _ENOUGH_SECONDS = 2, 4.0
_SAMPLE_QUESTIONS = 256


class AnswererSettings(ModelSettings):
    """Options that `generate` and `classify` share."""

    retrievals: str = option("retrievals: a data set of `retrieve`, or Parquet", path="data")
    model: str = option("a Hugging Face RAG checkpoint or seq2seq model; local or a hub id", path="model")
    n_docs: int | None = option(
        "passages of a row to use; 0: none, closed book; default: all in the row", None, ge=0
    )
    max_input_tokens: int = option(
        "tokens of title / text // question; the passage is cut, never the question", 300, ge=8
    )
    batch_tokens: int = option(
        "context tokens computed at once, padding included", DEFAULT_BATCH_TOKENS, changes_result=False, ge=1
    )
    reuse: str | None = option(
        "the output of an earlier run: rows of questions whose passages, texts and scores are unchanged are taken "
        "from it",
        None,
        path="data",
    )
    own_batches: bool = option(
        "no batch holds two questions, so that no bit of a row depends on what else is asked; slower where a "
        "question has few passages",
        False,
    )
    unit_rows: int = option("questions of a unit: what is computed and resumed as a whole", 256, ge=1)
    rows_per_part: int = option("the most rows of a part", 50_000, ge=1)

    def result_settings(self) -> dict[str, Any]:
        """With `batch_tokens` where batches are a question's own: then nothing else changes their rounding.

        Without `own_batches` where it is off: what was made before it was there is the same.
        """
        settings = super().result_settings()
        if self.own_batches:
            return settings | {"batch_tokens": self.batch_tokens}
        return {name: value for name, value in settings.items() if name != "own_batches"}

    def loader(self, workers: int, target: Target | None = None) -> GeneratorLoader:
        """What a worker loads; for a target, the very model that it is made with."""
        return GeneratorLoader(
            model=self.model,
            device=self.device,
            dtype=self.dtype,
            allow_pickle=self.allow_pickle,
            num_threads=threads_per_worker(self.num_threads, workers),
            max_input_tokens=self.max_input_tokens,
            fingerprint=target.settings["model"] if target is not None else None,
        )

    def target(self, table: str, stage: str, retrievals: Input, **resolved: Any) -> Target:
        """What is made of these settings; the model counts by its content, the dtype as resolved.

        Raises:
          NotReusable: what `reuse` leads to was made by another model or with other settings.
        """
        model = model_fingerprint(resolve_model(self.model))
        dtype = str(resolve_dtype(self.dtype, resolve_device(self.device))).removeprefix("torch.")
        settings = self.result_settings() | {"model": model, "dtype": dtype} | resolved
        details: dict[str, Any] = {"model": {"model": self.model, "fingerprint": model, "dtype": dtype}}
        if self.reuse is not None:
            details["reused"] = open_earlier_results(self.reuse, table, settings).as_input().to_json()
        return Target(
            folder=self.output,
            table=table,
            stage=stage,
            settings=settings,
            inputs=[retrievals],
            rows_per_part=self.rows_per_part,
            max_rejects=self.max_rejects,
            details=details,
        )

    def earlier(self, table: str) -> Dataset | None:
        """The rows that need not be computed; `target` has seen that they are this model's."""
        return open_dataset(STORAGE, self.reuse, table) if self.reuse is not None else None

    def estimate(
        self,
        made: str,
        work_on: Callable[[Dataset, GeneratorLoader], RetrievalWork],
        workers: int,
        forecasts: Forecasts,
    ) -> Estimate:
        """What the table `made` will take, from answers to some of the retrievals."""
        loader = self.loader(workers=1)
        retrievals = forecasts.of(self.retrievals, "retrievals", sample_rows=_SAMPLE_QUESTIONS)
        return estimate_rows(
            retrievals,
            "retrievals",
            made,
            lambda sample: work_on(sample, loader),
            lambda: Loaded(loader.load(), None),
            first_rows=_FIRST_QUESTIONS,
            enough_seconds=_ENOUGH_SECONDS,
            parts=retrievals.parts_of(self.rows_per_part),
            processes=devices_used(self.device, workers),
            notes=("without --reuse: an upper bound",) if self.reuse else (),
        )
