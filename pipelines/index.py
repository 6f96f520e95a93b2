"""`rag-beam index`: embeddings and passages to a MIPS index that answers by itself, and one that grows."""

from typing import Any

from pipelines.dataset.manifest import Input, fingerprint
from pipelines.dataset.reader import Dataset, open_dataset
from pipelines.dataset.target import WORK, Target
from pipelines.encoded_questions import (
    EncodedQuestions,
    QuestionsFormat,
    question_encoder_loader,
    questions_format_option,
)
from pipelines.estimates.forecasts import Estimate, Forecasts
from pipelines.estimates.indexing import estimate_indexing
from pipelines.filesystems import STORAGE
from pipelines.launch import Stage, Task
from pipelines.options import ModelSettings, option
from pipelines.sources import raw_inputs
from pipelines.transforms.codes import LEAST_RECALL, FillCodes, MeasurePrice, Measuring, TrainFactory
from pipelines.transforms.deletions import DeletePassages, read_ids
from pipelines.transforms.index_build import ENTRIES_SCHEMA, IndexBuild
from pipelines.transforms.index_manifest import WriteIndexManifest, index_manifest
from pipelines.transforms.models import threads_per_worker
from pipelines.transforms.shards import BuildShards
from pipelines.transforms.units import MakeDataset, Work
from pipelines.transforms.vectors import vector_matrix
from rag_core.errors import UsageError
from rag_core.mips.auto import AUTO
from rag_core.mips.factory import EXACT, Factory
from rag_core.storage import join


class IndexSettings(ModelSettings):
    """Options of `rag-beam index`."""

    embeddings: str | None = option("embeddings: a data set of `encode`, or Parquet", None, path="data")
    passages: str | None = option("the passages that were encoded", None, path="data")
    append: bool = option("add the embeddings to the index in --output", False, changes_result=False)
    delete: str | None = option(
        "passage ids, one a line or in Parquet, that the index in --output loses", None, path="data"
    )
    factory: str = option(
        "Flat: exact search over the stored vectors; auto: the quickest that reaches --min_recall within "
        "--memory_bytes; or a FAISS index_factory string, with ,RFlat at its end to refine from the stored vectors",
        EXACT,
    )
    train_rows: int | None = option(
        "vectors to train on, drawn over all parts; default: 64 for each centroid", None, ge=1
    )
    shard_rows: int = option("the most vectors of a shard", 500_000, ge=1)
    min_recall: float | None = option(
        "recall below which an approximate index is refused; default: none (auto: 0.95)", None, gt=0, le=1
    )
    recall_at: int = option("documents of the recall that is tuned for", 20, ge=1)
    questions: str | None = option(
        "real questions to tune and measure on; default: vectors of the index itself", None, path="data"
    )
    questions_format: QuestionsFormat = questions_format_option()
    encoder: str | None = option("the question encoder for --questions", None, path="model")
    max_tokens: int = option("tokens of a question that are encoded", 256, ge=2)
    sample_questions: int = option(
        "questions to tune on, and as many others to measure recall by", 1_000, ge=10
    )
    memory_bytes: int = option(
        "memory that a worker's search of the index may use; auto chooses within it",
        2 << 30,
        changes_result=False,
        ge=1 << 20,
    )


def prepare(settings: IndexSettings, workers: int) -> list[Task]:
    """The steps of a new index, or of one that grows or loses passages."""
    if settings.delete is not None:
        return _delete(settings)
    if settings.embeddings is None or settings.passages is None:
        raise UsageError("give --embeddings and --passages, or --delete for an index that is there")
    embeddings = open_dataset(STORAGE, settings.embeddings, "embeddings")
    passages = open_dataset(STORAGE, settings.passages, "passages")
    _check_belonging(embeddings, passages)
    if settings.append:
        return _append(settings, workers, embeddings, passages)
    _check_factory(settings, embeddings)
    build = IndexBuild(
        folder=settings.output,
        work=join(settings.output, WORK, "steps"),
        factory=settings.factory,
        encoder=embeddings.details.get("encoder"),
    )
    target = Target(
        folder=settings.output,
        table="mips_index",
        stage="index",
        settings=_settings_that_count(settings),
        inputs=[embeddings.as_input(), passages.as_input(), *_question_inputs(settings)],
        max_rejects=settings.max_rejects,
        carried=(build.step("shards"),),
    )
    return _steps(settings, workers, target, build, embeddings, passages, growth=[])


def estimate(settings: IndexSettings, workers: int, forecasts: Forecasts) -> Estimate | None:
    """What the shards of a new index, or of an addition, will take."""
    if settings.embeddings is None or settings.passages is None:
        return None

    def work_on(folder: str, embeddings: Dataset, passages: Dataset) -> BuildShards:
        build = IndexBuild(folder, join(folder, WORK), settings.factory, None)
        return BuildShards(build, embeddings, passages, settings.shard_rows)

    return estimate_indexing(
        forecasts.of(settings.embeddings, "embeddings"),
        forecasts.of(settings.passages, "passages"),
        work_on,
        factory=settings.factory,
        shard_rows=settings.shard_rows,
    )


def _append(settings: IndexSettings, workers: int, embeddings: Dataset, passages: Dataset) -> list[Task]:
    """New shards beside those of a finished index."""
    target, build, growth = _grown(settings, "append", [embeddings.as_input(), passages.as_input()])
    index = index_manifest(settings.output).details["index"]
    made_by, encoder = index["encoder"], embeddings.details.get("encoder")
    if made_by is not None and encoder is not None and made_by["fingerprint"] != encoder["fingerprint"]:
        raise UsageError(
            f"{embeddings.path}: was encoded by {encoder['model']} ({encoder['fingerprint'][:12]}…), {settings.output} "
            f"holds vectors of {made_by['model']} ({made_by['fingerprint'][:12]}…); encode the new passages with that"
        )
    dimension, dtype = _vector_type(embeddings)
    if (dimension, dtype) != (index["dimension"], index["vector_dtype"]):
        raise UsageError(
            f"{embeddings.path}: holds {dtype} vectors of {dimension} dimensions, {settings.output} "
            f"{index['vector_dtype']} of {index['dimension']}; encode with the same --encoder and "
            "--vector_dtype"
        )
    return _steps(settings, workers, target, build, embeddings, passages, growth)


def _delete(settings: IndexSettings) -> list[Task]:
    """The rows of given ids, out of the reach of searches."""
    path = settings.delete
    assert path is not None  # asked for only with --delete
    if settings.append or settings.embeddings or settings.passages:
        raise UsageError(
            "--delete: takes passages out of an index that is there; --append in a run of its own"
        )
    read_ids(path)
    target, build, growth = _grown(settings, "delete", raw_inputs(STORAGE, [path]))
    return [
        _step(target, build, "gone", DeletePassages(build, path)),
        _finish(target, build, growth),
    ]


def _grown(
    settings: IndexSettings, kind: str, inputs: list[Input]
) -> tuple[Target, IndexBuild, list[dict[str, Any]]]:
    """What becomes of a finished index by an addition or a deletion, and the list of all of them.

    A growth that is the index's last one already is the same target again: nothing is left to do.
    """
    if settings.overwrite:
        raise UsageError("--overwrite: an index that grows is not started afresh; leave it out")
    manifest = index_manifest(settings.output)
    index = manifest.details["index"]
    growth = index["growth"]
    marks = [item.fingerprint for item in inputs]
    if growth and growth[-1]["kind"] == kind and growth[-1]["inputs"] == marks:
        replaced, before = growth[-1]["replaces"], manifest.inputs[: len(manifest.inputs) - len(inputs)]
    else:
        replaced, before = manifest.fingerprint, manifest.inputs
        growth = [*growth, {"kind": kind, "inputs": marks, "replaces": replaced}]
    work = join(settings.output, WORK, fingerprint([replaced, kind, marks])[:12])
    build = IndexBuild(settings.output, work, index["factory"], index["encoder"], len(growth))
    target = Target(
        folder=settings.output,
        table="mips_index",
        stage="index",
        settings=manifest.settings | {"growth": growth},
        inputs=[*before, *inputs],
        max_rejects=settings.max_rejects,
        carried=(build.step("shards" if kind == "append" else "gone"),),
        replaces=replaced,
    )
    return target, build, growth


def _steps(
    settings: IndexSettings,
    workers: int,
    target: Target,
    build: IndexBuild,
    embeddings: Dataset,
    passages: Dataset,
    growth: list[dict[str, Any]],
) -> list[Task]:
    """The data sets on the way to an index, in order, and its manifest."""
    threads = threads_per_worker(settings.num_threads, workers)
    shards = BuildShards(build, embeddings, passages, settings.shard_rows)
    tasks = [_step(target, build, "shards", shards)]
    if build.factory != EXACT:
        asked = _encoded_questions(settings, build, threads)
        measuring = Measuring(
            questions_folder=asked.vectors.folder if asked else None,
            n_questions=settings.sample_questions,
            min_recall=settings.min_recall or (LEAST_RECALL if settings.factory == AUTO else None),
            recall_at=settings.recall_at,
            memory_bytes=settings.memory_bytes,
            num_threads=threads,
        )
        tasks += asked.tasks if asked else []
        if not build.growth:
            tasks.append(
                _step(target, build, "training", TrainFactory(build, measuring, settings.train_rows))
            )
        tasks.append(_step(target, build, "codes", FillCodes(build, threads)))
        tasks.append(_step(target, build, "price", MeasurePrice(build, measuring)))
    return [*tasks, _finish(target, build, growth)]


def _finish(target: Target, build: IndexBuild, growth: list[dict[str, Any]]) -> Task:
    """The index's manifest over what the steps have made."""
    return Task(target, WriteIndexManifest(target, build, growth, resumed=STORAGE.exists(build.work)))


def _step(target: Target, build: IndexBuild, name: str, work: Work) -> Task:
    """A step's data set, whose rows are entries of the manifest to be."""
    step = Target(
        folder=build.step(name),
        table=f"{name}-{build.growth:05d}",  # in the names of its rejects: those of an earlier growth stay
        stage="index",
        settings={"index": target.fingerprint},
        inputs=target.inputs,
        max_rejects=1.0,  # judged with the whole stage
        schema=ENTRIES_SCHEMA,
    )
    return Task(step, MakeDataset(step, work))


def _encoded_questions(settings: IndexSettings, build: IndexBuild, threads: int) -> EncodedQuestions | None:
    """The given questions to tune on; None where the index's own vectors serve."""
    if settings.questions is None:
        return None
    if settings.encoder is None:
        raise UsageError("--questions: give --encoder too, the question encoder of the index")
    loader = question_encoder_loader(settings, settings.encoder, settings.max_tokens, threads)
    return EncodedQuestions.plan(
        "index",
        build.work,
        settings.questions,
        settings.questions_format,
        loader,
        unit_rows=10_000,
        batch_tokens=None,
    )


def _settings_that_count(settings: IndexSettings) -> dict[str, Any]:
    """The options that change this index: an exact one is neither trained nor tuned, memory matters to auto."""
    ignored: set[str] = set()
    if settings.factory == EXACT:
        ignored |= {"train_rows", "min_recall", "recall_at", "sample_questions"}
    if settings.questions is None or settings.factory == EXACT:
        ignored |= {"max_tokens", "dtype"}
    counting = {name: value for name, value in settings.result_settings().items() if name not in ignored}
    return counting | ({"memory_bytes": settings.memory_bytes} if settings.factory == AUTO else {})


def _question_inputs(settings: IndexSettings) -> list[Input]:
    if settings.questions is None or settings.factory == EXACT:
        return []
    return raw_inputs(STORAGE, STORAGE.glob(settings.questions) or [settings.questions])


def _check_factory(settings: IndexSettings, embeddings: Dataset) -> None:
    """Refuses a factory that cannot be made, before any work is done.

    Raises:
      UsageError: FAISS cannot make it in this dimension, or there are too few vectors to train it.
    """
    if settings.factory in (EXACT, AUTO):
        return
    factory = Factory.parse(settings.factory, _vector_type(embeddings)[0])
    rows = min(embeddings.rows, settings.train_rows or embeddings.rows)
    if rows < factory.train_rows_required():
        raise UsageError(
            f"--factory {factory.text}: needs at least {factory.train_rows_required():,} vectors to train on, got "
            f"{rows:,}; give a factory with fewer lists or centroids, more --train_rows, or a larger corpus"
        )


def _vector_type(embeddings: Dataset) -> tuple[int, str]:
    """Dimension and precision of a data set of embeddings, from its first row."""
    batch = next(embeddings.read(STORAGE, end=1))
    vectors = vector_matrix(batch.column("vector"), embeddings.path)
    return vectors.shape[1], str(vectors.dtype)


def _check_belonging(embeddings: Dataset, passages: Dataset) -> None:
    """Refuses embeddings that were made from other passages.

    Raises:
      UsageError: the embeddings' manifest names another data set, or there are more vectors than passages.
    """
    if embeddings.inputs and passages.fingerprint not in {item.fingerprint for item in embeddings.inputs}:
        made_from = embeddings.inputs[0]
        raise UsageError(
            f"{embeddings.path}: was encoded from {made_from.path} ({made_from.fingerprint[:12]}…), not from "
            f"{passages.path} ({passages.fingerprint[:12]}…); give the passages that were encoded"
        )
    if embeddings.rows > passages.rows:
        raise UsageError(
            f"{embeddings.path}: has {embeddings.rows} vectors, {passages.path} only {passages.rows} passages; give "
            "the passages that were encoded"
        )


STAGE = Stage(
    name="index",
    settings=IndexSettings,
    summary="Builds a MIPS index in shards, with the passages beside the vectors.",
    reads="embeddings, passages",
    writes="a MIPS index",
    example="rag-beam index --embeddings out/embeddings --passages out/passages --output out/index",
    prepare=prepare,
    estimate=estimate,
)
main = STAGE.main

if __name__ == "__main__":
    raise SystemExit(main())
