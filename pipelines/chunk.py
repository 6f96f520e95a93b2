"""`rag-beam chunk`: a corpus in any of its formats to disjoint passages of 100 words."""

from typing import Literal

from pipelines.dataset.target import Target
from pipelines.estimates.chunking import estimate_chunking
from pipelines.estimates.forecasts import Estimate, Forecasts
from pipelines.filesystems import STORAGE
from pipelines.launch import Stage, Task
from pipelines.options import StageSettings, option
from pipelines.sources import input_files, raw_inputs
from pipelines.transforms.passages import ChunkCorpus, ReadSource, read_stored
from pipelines.transforms.units import MakeDataset
from rag_core.corpus import CORPUS_FORMATS, Source, plan_sources


class ChunkSettings(StageSettings):
    """Options of `rag-beam chunk`."""

    input: list[str] = option("files or globs to read", min_length=1, path="data")
    input_format: Literal["auto", *CORPUS_FORMATS] = option(
        "auto decides by content", "auto", changes_result=False
    )  # type: ignore[valid-type]
    passage_words: int = option("words of a passage; 0 keeps each document whole", 100, ge=0)
    min_words: int = option("passages with fewer words are not written", 1, ge=0)
    last_passage: Literal["keep", "wrap"] = option(
        "keep the last passage short, or fill it from the document's start as DPR's own split did", "keep"
    )
    rows_per_part: int = option("the most rows of a part", 50_000, ge=1)


def prepare(settings: ChunkSettings, workers: int) -> list[Task]:
    """The passages to make, from the sources that the input names."""
    sources = _sources(settings)
    for kind in sorted({source.format for source in sources}):
        if settings.input_format == "auto":
            count = len({source.path for source in sources if source.format == kind})
            print(f"chunk: {count} {'files look' if count > 1 else 'file looks'} like {kind}")
    target = Target(
        folder=settings.output,
        table="passages",
        stage="chunk",
        settings=settings.result_settings()
        | {"input_formats": sorted({source.format for source in sources})},
        inputs=raw_inputs(STORAGE, [source.path for source in sources]),
        rows_per_part=settings.rows_per_part,
        max_rejects=settings.max_rejects,
        unique=True,
    )
    return [Task(target, MakeDataset(target, _work(settings, sources)))]


def estimate(settings: ChunkSettings, workers: int, forecasts: Forecasts) -> Estimate | None:
    """What the passages will take."""
    return estimate_chunking(
        _sources(settings),
        lambda sources, read: _work(settings, sources, read),
        rows_per_part=settings.rows_per_part,
        workers=workers,
    )


def _sources(settings: ChunkSettings) -> list[Source]:
    return plan_sources(STORAGE, input_files(STORAGE, settings.input), settings.input_format)


def _work(settings: ChunkSettings, sources: list[Source], read: ReadSource = read_stored) -> ChunkCorpus:
    return ChunkCorpus(sources, settings.passage_words, settings.min_words, settings.last_passage, read)


STAGE = Stage(
    name="chunk",
    settings=ChunkSettings,
    summary="Cuts documents into disjoint passages of 100 words.",
    reads="Wikipedia XML, WikiExtractor, DPR TSV, KILT, SQuAD, FEVER, JSONL, CSV, text, Parquet, datasets",
    writes="passages",
    example="rag-beam chunk --input corpus/*.jsonl --output out/passages",
    prepare=prepare,
    estimate=estimate,
)
main = STAGE.main

if __name__ == "__main__":
    raise SystemExit(main())
