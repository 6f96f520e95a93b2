"""`rag-beam retrieve`: the top K passages of an index for each question."""

import sys
from typing import Any, Literal

from pydantic import model_validator

from pipelines.dataset.manifest import Input, Manifest
from pipelines.dataset.target import WORK, Target
from pipelines.encoded_questions import (
    EncodedQuestions,
    QuestionsFormat,
    question_encoder_loader,
    questions_format_option,
    questions_to_read,
)
from pipelines.estimates.forecasts import Estimate, Forecasts
from pipelines.estimates.indexing import forecast_index
from pipelines.estimates.retrieving import Search, estimate_retrieval, forecast_questions
from pipelines.estimates.rows import devices_used, estimate_rows
from pipelines.filesystems import STORAGE
from pipelines.index_fit import EFFORT_OPTIONS, check_encoders_belong, chosen_effort
from pipelines.launch import Stage, Task
from pipelines.options import ModelSettings, option
from pipelines.shard_cache import ShardCacheSettings
from pipelines.sources import input_files
from pipelines.terminal import printable_lines
from pipelines.transforms.index_manifest import index_manifest
from pipelines.transforms.models import QuestionEncoderLoader, default_batch_tokens, threads_per_worker
from pipelines.transforms.questions import EncodeQuestions, Loaded
from pipelines.transforms.search import SearchIndex, TakePassages
from pipelines.transforms.units import MakeDataset
from pipelines.transforms.word_search import SearchWords
from rag_core.model_files import resolve_device
from rag_core.questions import QuestionSource, plan_question_sources
from rag_core.storage import join
from schemas.question_vectors import question_vectors_schema

_BM25_ONLY = frozenset({"bm25_k1", "bm25_b"})
_DENSE_ONLY = frozenset(
    {
        "encoder",
        "question_vectors",
        "max_tokens",
        "shard_tiles",
        "exact",
        "nprobe",
        "ef_search",
        "refine_factor",
        "batch_tokens",
    }
)
_FIRST_ROWS = 32  # questions that an estimate encodes


class RetrieveSettings(ShardCacheSettings, ModelSettings):
    """Options of `rag-beam retrieve`."""

    index: str = option("a MIPS index of `rag-beam index`", path="data")
    questions: str = option("a question file, a glob, or a data set of questions", path="data")
    questions_format: QuestionsFormat = questions_format_option()
    retriever: Literal["dense", "bm25"] = option(
        "dense: by the encoder's vectors; bm25: by words, without an encoder", "dense"
    )
    encoder: str | None = option(
        "the question encoder, or a RAG checkpoint that holds it; dense only", None, path="model"
    )
    question_vectors: str | None = option(
        "folder that keeps the encoded questions: those that an earlier run put there are not encoded again; "
        "default: they are not kept; dense only",
        None,
        path="data",
    )
    bm25_k1: float = option("how soon further occurrences of a word stop to count; bm25 only", 0.9, ge=0)
    bm25_b: float = option("how much a passage's length counts; bm25 only", 0.4, ge=0, le=1)
    n_docs: int = option("passages of a question (K)", 50, ge=1)
    max_tokens: int = option("tokens of a question that are encoded", 256, ge=2)
    question_block: int = option("questions searched for at once: a unit", 50_000, ge=1)
    memory_bytes: int = option(
        "memory that a worker's search may use", 2 << 30, changes_result=False, ge=1 << 20
    )
    shard_tiles: int | None = option(
        "groups that the shards are divided into, where questions make fewer blocks than this; default: "
        "the local workers",
        None,
        changes_result=False,
        ge=1,
    )
    exact: bool = option("search an approximate index exactly, by its stored vectors", False)
    nprobe: int | None = option("inverted lists to look into; default: as the index was tuned", None, ge=1)
    ef_search: int | None = option("queue of an HNSW search; default: as the index was tuned", None, ge=1)
    refine_factor: int | None = option(
        "candidates for each passage asked for; default: as the index was tuned", None, ge=1
    )
    batch_tokens: int | None = option(
        "tokens of a batch to encode, padding included; default: 2,048 on a CPU, 65,536 on a GPU",
        None,
        changes_result=False,
        ge=1,
    )
    unit_rows: int = option("questions of a unit to encode", 10_000, ge=1)
    rows_per_part: int = option("the most rows of a part", 50_000, ge=1)

    @model_validator(mode="after")
    def _options_go_together(self) -> "RetrieveSettings":
        if self.retriever == "dense" and self.encoder is None:
            raise ValueError("--encoder is required, unless --retriever is bm25")
        others = self.model_fields_set & (_BM25_ONLY if self.retriever == "dense" else _DENSE_ONLY)
        if others:
            raise ValueError(f"--{min(others)}: has no meaning with --retriever {self.retriever}")
        return self

    def result_settings(self) -> dict[str, Any]:
        """Those that count for the retriever chosen; dense ones are told by not naming another."""
        others = _BM25_ONLY | {"retriever"} if self.retriever == "dense" else _DENSE_ONLY | {"dtype"}
        return {name: value for name, value in super().result_settings().items() if name not in others}


def prepare(settings: RetrieveSettings, workers: int) -> list[Task]:
    """The data sets on the way to the retrievals, each made from the ones before."""
    manifest = index_manifest(settings.index)
    index = manifest.details["index"]
    held = index["rows"] - index.get("gone", {"rows": 0})["rows"]
    if settings.n_docs > held:
        _warn(f"--n_docs {settings.n_docs}: {settings.index} holds {held} passages, all of them are returned")
    if settings.retriever == "bm25":
        return _by_words(settings, manifest)
    return _by_vectors(settings, manifest, workers)


def _by_vectors(settings: RetrieveSettings, manifest: Manifest, workers: int) -> list[Task]:
    """Four data sets: questions, their vectors, rows found, passages."""
    index = manifest.details["index"]
    work = join(settings.output, WORK)
    asked = EncodedQuestions.plan(
        "retrieve",
        work,
        settings.questions,
        settings.questions_format,
        _loader(settings, workers),
        unit_rows=settings.unit_rows,
        batch_tokens=settings.batch_tokens,
        kept=settings.question_vectors,
    )
    warning = check_encoders_belong(str(settings.encoder), asked.encoder, settings.index, index)
    if warning is not None:
        _warn(warning)
    given = settings.model_dump(include=set(EFFORT_OPTIONS), exclude_none=True)
    effort = chosen_effort(settings.index, index, given, settings.exact)
    tiles = settings.shard_tiles or workers
    search = SearchIndex(
        settings.index,
        asked.vectors.folder,
        n_docs=settings.n_docs,
        question_block=settings.question_block,
        shard_tiles=tiles,
        effort=effort,
        memory_bytes=settings.memory_bytes,
        num_threads=threads_per_worker(settings.num_threads, workers),
        device=settings.device,
        shard_cache=settings.shard_cache(),
    )
    results = _results(
        settings, manifest, asked.vectors, f"search_results_{tiles}", {"effort": effort, "shard_tiles": tiles}
    )
    retrievals = _retrievals(
        settings,
        manifest,
        (asked.questions, asked.vectors),
        {"encoder": asked.encoder, "dtype": asked.encoder["dtype"], "effort": effort},
        {
            "question_encoder": asked.encoder | {"model": settings.encoder},
            "question_vectors": asked.vectors.fingerprint,
            "warnings": [warning] if warning else [],
        },
    )
    take = _take(settings, asked.vectors.folder, results.folder)
    return [
        *asked.tasks,
        Task(results, MakeDataset(results, search)),
        Task(retrievals, MakeDataset(retrievals, take)),
    ]


def _by_words(settings: RetrieveSettings, manifest: Manifest) -> list[Task]:
    """Three data sets: questions, rows found, passages."""
    reading = questions_to_read(
        "retrieve", join(settings.output, WORK), settings.questions, settings.questions_format
    )
    questions = reading.target
    weights = {"k1": settings.bm25_k1, "b": settings.bm25_b}
    search = SearchWords(
        settings.index,
        questions.folder,
        n_docs=settings.n_docs,
        question_block=settings.question_block,
        **weights,
        shard_cache=settings.shard_cache(),
    )
    results = _results(settings, manifest, questions, "search_results", {"bm25": weights})
    retrievals = _retrievals(settings, manifest, (questions,), {}, {"bm25": weights})
    take = TakePassages(
        settings.index,
        questions.folder,
        results.folder,
        n_docs=settings.n_docs,
        unit_rows=settings.unit_rows,
        questions_table="questions",
        shard_cache=settings.shard_cache(),
    )
    return [
        reading,
        Task(results, MakeDataset(results, search)),
        Task(retrievals, MakeDataset(retrievals, take)),
    ]


def _results(
    settings: RetrieveSettings, manifest: Manifest, asked: Target, name: str, how: dict[str, Any]
) -> Target:
    """The rows found for what is asked, on the way to the retrievals."""
    return Target(
        folder=join(settings.output, WORK, name),
        table="search_results",
        stage="retrieve",
        settings={"n_docs": settings.n_docs, "question_block": settings.question_block} | how,
        inputs=[Input(settings.index, manifest.fingerprint), Input(asked.folder, asked.fingerprint)],
        max_rejects=1.0,
    )


def _retrievals(
    settings: RetrieveSettings,
    manifest: Manifest,
    carried: tuple[Target, ...],
    resolved: dict[str, Any],
    details: dict[str, Any],
) -> Target:
    """The output; the first of `carried` are the questions."""
    index = manifest.details["index"]
    return Target(
        folder=settings.output,
        table="retrievals",
        stage="retrieve",
        settings=settings.result_settings() | resolved,
        inputs=[Input(settings.index, manifest.fingerprint), *carried[0].inputs],
        rows_per_part=settings.rows_per_part,
        max_rejects=settings.max_rejects,
        carried=tuple(target.folder for target in carried),
        details={
            "index": {
                "path": settings.index,
                "fingerprint": manifest.fingerprint,
                "encoder": index["encoder"],
                "factory": index["factory"],
            },
        }
        | details,
    )


def estimate(settings: RetrieveSettings, workers: int, forecasts: Forecasts) -> Estimate | None:
    """What the retrievals will take: questions encoded, all vectors searched, passages taken; None for BM25."""
    if settings.retriever == "bm25":
        return None
    loader = _loader(settings, workers=1)
    index = forecast_index(forecasts, settings.index)
    questions = forecasts.estimated(settings.questions) or forecast_questions(_question_sources(settings))
    encoded = estimate_rows(
        questions,
        "questions",
        "question_vectors",
        lambda sample: EncodeQuestions(
            sample.path,
            loader,
            unit_rows=settings.unit_rows,
            batch_tokens=settings.batch_tokens or default_batch_tokens(settings.device),
        ),
        lambda: Loaded(loader.load(), ()),
        schema_of=lambda loaded: question_vectors_schema(loaded.encoder.dimension),
        first_rows=_FIRST_ROWS,
        parts=1,
        processes=devices_used(settings.device, workers),
    )
    search = Search(settings.n_docs, settings.memory_bytes, resolve_device(settings.device))
    return estimate_retrieval(
        index,
        encoded,
        lambda vectors, results: _take(settings, vectors, results),
        search,
        rows_per_part=settings.rows_per_part,
    )


def _question_sources(settings: RetrieveSettings) -> list[QuestionSource]:
    files = input_files(STORAGE, [settings.questions])
    return plan_question_sources(STORAGE, files, settings.questions_format)


def _loader(settings: RetrieveSettings, workers: int) -> QuestionEncoderLoader:
    assert settings.encoder is not None  # the settings see to it
    threads = threads_per_worker(settings.num_threads, workers)
    return question_encoder_loader(settings, settings.encoder, settings.max_tokens, threads)


def _take(settings: RetrieveSettings, vectors_folder: str, results_folder: str) -> TakePassages:
    return TakePassages(
        settings.index,
        vectors_folder,
        results_folder,
        n_docs=settings.n_docs,
        unit_rows=settings.unit_rows,
        shard_cache=settings.shard_cache(),
    )


def _warn(message: str) -> None:
    print(printable_lines(f"retrieve: warning: {message}"), file=sys.stderr)


STAGE = Stage(
    name="retrieve",
    settings=RetrieveSettings,
    summary="Encodes questions and finds their passages by maximum inner product search, or by BM25.",
    reads="a MIPS index; question files: JSONL, DPR, CuratedTREC, KILT, SQuAD, FEVER, CSV, Parquet, datasets",
    writes="retrievals",
    example="rag-beam retrieve --index out/index --questions questions.jsonl --encoder facebook/rag-sequence-nq "
    "--output out/retrievals",
    prepare=prepare,
    estimate=estimate,
)
main = STAGE.main

if __name__ == "__main__":
    raise SystemExit(main())
