"""`rag-beam retrieve`: the top K passages of an index for each question."""

import sys
from typing import Any

from pipelines.dataset.manifest import Input
from pipelines.dataset.target import WORK, Target
from pipelines.encoded_questions import (
    EncodedQuestions,
    QuestionsFormat,
    question_encoder_loader,
    questions_format_option,
)
from pipelines.estimates.forecasts import Estimate, Forecasts
from pipelines.estimates.indexing import forecast_index
from pipelines.estimates.retrieving import Search, estimate_retrieval, forecast_questions
from pipelines.estimates.rows import devices_used, estimate_rows
from pipelines.filesystems import STORAGE
from pipelines.launch import Stage, Task
from pipelines.options import ModelSettings, option
from pipelines.sources import input_files
from pipelines.transforms.index_manifest import index_manifest
from pipelines.transforms.models import QuestionEncoderLoader, default_batch_tokens, threads_per_worker
from pipelines.transforms.questions import EncodeQuestions
from pipelines.transforms.search import SearchIndex, TakePassages
from pipelines.transforms.units import MakeDataset
from rag_core.errors import UsageError
from rag_core.mips.factory import EXACT
from rag_core.model_files import resolve_device
from rag_core.questions import QuestionSource, plan_question_sources
from rag_core.storage import join
from schemas.question_vectors import question_vectors_schema

_FIRST_ROWS = 32  # questions that an estimate encodes


class RetrieveSettings(ModelSettings):
    """Options of `rag-beam retrieve`."""

    index: str = option("a MIPS index of `rag-beam index`", path="data")
    questions: str = option("a question file, a glob, or a data set of questions", path="data")
    questions_format: QuestionsFormat = questions_format_option()
    encoder: str = option("the question encoder, or a RAG checkpoint that holds it", path="model")
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


def prepare(settings: RetrieveSettings, workers: int) -> list[Task]:
    """Four data sets, each made from the one before: questions, their vectors, rows found, passages."""
    manifest = index_manifest(settings.index)
    index = manifest.details["index"]
    threads = threads_per_worker(settings.num_threads, workers)
    work = join(settings.output, WORK)
    loader = _loader(settings, workers)
    asked = EncodedQuestions.plan(
        "retrieve",
        work,
        settings.questions,
        settings.questions_format,
        loader,
        unit_rows=settings.unit_rows,
        batch_tokens=settings.batch_tokens,
    )
    warning = check_encoders_belong(asked.encoder, index, settings)
    effort = chosen_effort(index, settings)
    held = index["rows"] - index.get("gone", {"rows": 0})["rows"]
    if settings.n_docs > held:
        _warn(f"--n_docs {settings.n_docs}: {settings.index} holds {held} passages, all of them are returned")
    search_settings = {"n_docs": settings.n_docs, "question_block": settings.question_block, "effort": effort}
    tiles = settings.shard_tiles or workers
    results = Target(
        folder=join(work, f"search_results_{tiles}"),
        table="search_results",
        stage="retrieve",
        settings=search_settings | {"shard_tiles": tiles},
        inputs=[
            Input(settings.index, manifest.fingerprint),
            Input(asked.vectors.folder, asked.vectors.fingerprint),
        ],
        max_rejects=1.0,
    )
    retrievals = Target(
        folder=settings.output,
        table="retrievals",
        stage="retrieve",
        settings=settings.result_settings()
        | {"encoder": asked.encoder, "dtype": asked.encoder["dtype"], "effort": effort},
        inputs=[Input(settings.index, manifest.fingerprint), *asked.questions.inputs],
        rows_per_part=settings.rows_per_part,
        max_rejects=settings.max_rejects,
        carried=(asked.questions.folder, asked.vectors.folder),
        details={
            "question_encoder": asked.encoder | {"model": settings.encoder},
            "index": {
                "path": settings.index,
                "fingerprint": manifest.fingerprint,
                "encoder": index["encoder"],
                "factory": index["factory"],
            },
            "warnings": [warning] if warning else [],
        },
    )
    search = SearchIndex(
        settings.index,
        asked.vectors.folder,
        n_docs=settings.n_docs,
        question_block=settings.question_block,
        shard_tiles=tiles,
        effort=effort,
        memory_bytes=settings.memory_bytes,
        num_threads=threads,
        device=settings.device,
    )
    take = _take(settings, asked.vectors.folder, results.folder)
    return [
        *asked.tasks,
        Task(results, MakeDataset(results, search)),
        Task(retrievals, MakeDataset(retrievals, take)),
    ]


def estimate(settings: RetrieveSettings, workers: int, forecasts: Forecasts) -> Estimate:
    """What the retrievals will take: questions encoded, all vectors searched, passages taken."""
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
        loader.load,
        schema_of=lambda encoder: question_vectors_schema(encoder.dimension),
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
    threads = threads_per_worker(settings.num_threads, workers)
    return question_encoder_loader(settings, settings.encoder, settings.max_tokens, threads)


def _take(settings: RetrieveSettings, vectors_folder: str, results_folder: str) -> TakePassages:
    return TakePassages(
        settings.index,
        vectors_folder,
        results_folder,
        n_docs=settings.n_docs,
        unit_rows=settings.unit_rows,
    )


def chosen_effort(index: dict[str, Any], settings: RetrieveSettings) -> dict[str, int] | None:
    """How hard an approximate index looks: its own effort, but for the options given; None: exactly.

    Raises:
      UsageError: an option of an approximate search for an exact one.
    """
    given = settings.model_dump(include={"nprobe", "ef_search", "refine_factor"}, exclude_none=True)
    if index["factory"] != EXACT and not settings.exact:
        return index["effort"] | given
    if given:
        raise UsageError(
            f"--{next(iter(given))}: belongs to an approximate search; {settings.index} is searched exactly"
        )
    return None


def check_encoders_belong(
    encoder: dict[str, Any], index: dict[str, Any], settings: RetrieveSettings
) -> str | None:
    """Whether question encoder and index have one vector space; returns a warning where nobody recorded it.

    Raises:
      UsageError: another dimension; a one-tower encoder other than the index's; a question encoder
        that was trained for another passage encoder.
    """
    question, passage = settings.encoder, settings.index
    if encoder["dimension"] != index["dimension"]:
        raise UsageError(
            f"--encoder {question}: gives vectors of {encoder['dimension']} dimensions, {passage} holds "
            f"{index['dimension']}; give the question encoder that belongs to the index's passage encoder"
        )
    indexed = index["encoder"]
    belongs_to = encoder["passage_encoder_fingerprint"]
    if indexed is None:
        return _warn(
            f"{passage}: does not say which encoder made its vectors; the scores mean something only if "
            f"{question} belongs to it"
        )
    if belongs_to is not None and belongs_to != indexed["fingerprint"]:
        raise UsageError(
            f"--encoder {question}: belongs to the passage encoder {belongs_to[:12]}…, {passage} was made with "
            f"{indexed['model']} ({indexed['fingerprint'][:12]}…); give the question encoder of the index"
        )
    if belongs_to is None and indexed["towers"] == 1:
        raise UsageError(
            f"--encoder {question}: is not the encoder that made {passage}, {indexed['model']} "
            f"({indexed['fingerprint'][:12]}…), which encodes questions and passages alike; give that one"
        )
    if belongs_to is None:
        return _warn(
            f"{question}: does not record the passage encoder it was trained with; {passage} was made with "
            f"{indexed['model']}"
        )
    return None


def _warn(message: str) -> str:
    print(f"retrieve: warning: {message}", file=sys.stderr)
    return message


STAGE = Stage(
    name="retrieve",
    settings=RetrieveSettings,
    summary="Encodes questions and finds their passages by maximum inner product search.",
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
