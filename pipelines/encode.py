"""`rag-beam encode`: passages to vectors, with the passage encoder."""

import math
from typing import Literal

from pipelines.dataset.reader import Dataset, open_dataset
from pipelines.dataset.target import Target
from pipelines.estimates.forecasts import Estimate, Forecasts
from pipelines.estimates.rows import devices_used, estimate_rows
from pipelines.filesystems import STORAGE
from pipelines.launch import Stage, Task
from pipelines.options import ModelSettings, option
from pipelines.transforms.embeddings import EncodePassages, Loaded
from pipelines.transforms.models import PassageEncoderLoader, default_batch_tokens, threads_per_worker
from pipelines.transforms.reuse import open_earlier
from pipelines.transforms.units import MakeDataset
from rag_core.storage import file_name
from schemas.embeddings import embeddings_schema

_FIRST_ROWS = 32  # that an estimate encodes


class EncodeSettings(ModelSettings):
    """Options of `rag-beam encode`."""

    passages: str = option("passages: a data set of `chunk`, or Parquet", path="data")
    encoder: str = option(
        "a DPR passage encoder or a sentence-transformers folder; local or a hub id", path="model"
    )
    vector_dtype: Literal["float16", "float32"] = option("of the vectors as written", "float16")
    max_tokens: int = option(
        "tokens of a passage that are encoded, at most the model's own maximum", 256, ge=2
    )
    passage_template: str = option(
        "how title and text become one text where the model takes one", "{title} {text}"
    )
    batch_tokens: int | None = option(
        "tokens of a batch to encode, padding included; default: 2,048 on a CPU, 65,536 on a GPU",
        None,
        changes_result=False,
        ge=1,
    )
    reuse: str | None = option(
        "embeddings of an earlier run: vectors of passages whose title and text are unchanged are taken from it",
        None,
        path="data",
    )
    unit_rows: int = option("passages of a unit: what is computed and resumed as a whole", 2_000, ge=1)


def prepare(settings: EncodeSettings, workers: int) -> list[Task]:
    """The embeddings to make, one part for each part of the passages."""
    return encode_with(_loader(settings, workers), settings)


def encode_with(loader: PassageEncoderLoader, settings: EncodeSettings) -> list[Task]:
    """The embeddings to make with the encoder that `loader` loads."""
    passages = open_dataset(STORAGE, settings.passages, "passages")
    encoder = loader.load()
    described = encoder.describe()
    earlier = open_earlier(settings.reuse, described, settings.vector_dtype) if settings.reuse else None
    if earlier is not None and not encoder.batch_invariant:
        print(
            "encode: this encoder's vectors depend in their last bits on what they were encoded with; those "
            f"taken from {settings.reuse} may differ from fresh ones there"
        )
    names = [file_name(part.path) for part in passages.parts]
    target = Target(
        folder=settings.output,
        table="embeddings",
        stage="encode",
        settings=settings.result_settings() | {"encoder": described, "dtype": described["dtype"]},
        inputs=[passages.as_input()],
        rows_per_part=max(part.rows for part in passages.parts),
        max_rejects=settings.max_rejects,
        schema=embeddings_schema(encoder.dimension, settings.vector_dtype),
        part_names=tuple(names) if len(set(names)) == len(names) else (),
        details={"encoder": described | {"model": settings.encoder}}
        | ({"reused": earlier.as_input().to_json()} if earlier else {}),
    )
    work = _work(settings, passages, loader.expecting(encoder.fingerprint), earlier)
    return [Task(target, MakeDataset(target, work))]


def estimate(settings: EncodeSettings, workers: int, forecasts: Forecasts) -> Estimate:
    """What the embeddings will take, as if none could be reused."""
    loader = _loader(settings, workers=1)
    passages = forecasts.of(settings.passages, "passages")

    def work_on(sample: Dataset) -> EncodePassages:
        # as many units in hand as in the run: they need memory, and overlap
        unit_rows = min(settings.unit_rows, math.ceil(sample.rows / EncodePassages.units_at_once))
        return _work(settings.model_copy(update={"unit_rows": unit_rows}), sample, loader)

    return estimate_rows(
        passages,
        "passages",
        "embeddings",
        work_on,
        lambda: Loaded(loader.load(), None),
        schema_of=lambda loaded: embeddings_schema(loaded.encoder.dimension, settings.vector_dtype),
        first_rows=_FIRST_ROWS,
        parts=passages.parts,
        processes=devices_used(settings.device, workers),
        notes=("without --reuse: an upper bound",) if settings.reuse else (),
    )


def _loader(settings: EncodeSettings, workers: int) -> PassageEncoderLoader:
    return PassageEncoderLoader(
        model=settings.encoder,
        device=settings.device,
        dtype=settings.dtype,
        max_tokens=settings.max_tokens,
        passage_template=settings.passage_template,
        allow_pickle=settings.allow_pickle,
        num_threads=threads_per_worker(settings.num_threads, workers),
    )


def _work(
    settings: EncodeSettings, passages: Dataset, loader: PassageEncoderLoader, earlier: Dataset | None = None
) -> EncodePassages:
    return EncodePassages(
        passages,
        loader,
        unit_rows=settings.unit_rows,
        batch_tokens=settings.batch_tokens or default_batch_tokens(settings.device),
        vector_dtype=settings.vector_dtype,
        earlier=earlier,
    )


STAGE = Stage(
    name="encode",
    settings=EncodeSettings,
    summary="Encodes passages with the passage encoder, in batches sorted by length.",
    reads="passages",
    writes="embeddings, in the same parts and row order",
    example="rag-beam encode --passages out/passages --encoder facebook/dpr-ctx_encoder-single-nq-base "
    "--output out/embeddings",
    prepare=prepare,
    estimate=estimate,
)
main = STAGE.main

if __name__ == "__main__":
    raise SystemExit(main())
