"""`rag-beam index`: embeddings and passages to a MIPS index that answers by itself."""

from typing import Literal

from pipelines.dataset.reader import Dataset, open_dataset
from pipelines.dataset.target import Target
from pipelines.filesystems import STORAGE
from pipelines.launch import Stage, Task
from pipelines.options import StageSettings, option
from pipelines.transforms.mips import SHARDS_SCHEMA, BuildShards, MakeIndex
from rag_core.errors import UsageError


class IndexSettings(StageSettings):
    """Options of `rag-beam index`."""

    embeddings: str = option("embeddings: a data set of `encode`, or Parquet", path="data")
    passages: str = option("the passages that were encoded", path="data")
    factory: Literal["Flat"] = option("Flat: exact search over the stored vectors", "Flat")
    train_rows: int | None = option(
        "vectors to train on, for factories that train; Flat needs none", None, ge=1
    )
    shard_rows: int = option("the most vectors of a shard", 500_000, ge=1)


def prepare(settings: IndexSettings, workers: int) -> list[Task]:
    """The index to build."""
    embeddings = open_dataset(STORAGE, settings.embeddings, "embeddings")
    passages = open_dataset(STORAGE, settings.passages, "passages")
    _check_belonging(embeddings, passages)
    target = Target(
        folder=settings.output,
        table="mips_index",
        stage="index",
        settings=settings.result_settings(),
        inputs=[embeddings.as_input(), passages.as_input()],
        max_rejects=settings.max_rejects,
        schema=SHARDS_SCHEMA,
        details={"encoder": embeddings.details.get("encoder"), "factory": settings.factory},
    )
    return [
        Task(
            target, MakeIndex(target, BuildShards(settings.output, embeddings, passages, settings.shard_rows))
        )
    ]


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
)
main = STAGE.main

if __name__ == "__main__":
    raise SystemExit(main())
