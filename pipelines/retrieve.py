"""`rag-beam retrieve`: the top K passages of an index for each question."""

import sys
from typing import Any, Literal

from pipelines.dataset.manifest import Input
from pipelines.dataset.target import WORK, Target
from pipelines.filesystems import STORAGE
from pipelines.launch import Stage, Task
from pipelines.options import ModelSettings, option
from pipelines.sources import input_files, raw_inputs
from pipelines.transforms.mips import SearchIndex, index_manifest
from pipelines.transforms.models import QuestionEncoderLoader, default_batch_tokens, threads_per_worker
from pipelines.transforms.questions import EncodeQuestions, ReadQuestions
from pipelines.transforms.units import MakeDataset
from rag_core.errors import UsageError
from rag_core.questions import QUESTION_FORMATS, plan_question_sources
from rag_core.storage import join
from schemas.question_vectors import question_vectors_schema


class RetrieveSettings(ModelSettings):
    """Options of `rag-beam retrieve`."""

    index: str = option("a MIPS index of `rag-beam index`", path="data")
    questions: str = option("a question file, a glob, or a data set of questions", path="data")
    questions_format: Literal["auto", *QUESTION_FORMATS] = option(  # type: ignore[valid-type]
        "auto decides by content", "auto", changes_result=False
    )
    encoder: str = option("the question encoder, or a RAG checkpoint that holds it", path="model")
    n_docs: int = option("passages of a question (K)", 50, ge=1)
    max_tokens: int = option("tokens of a question that are encoded", 256, ge=2)
    question_block: int = option("questions searched for at once: a unit", 50_000, ge=1)
    memory_bytes: int = option(
        "memory that a worker's search may use", 2 << 30, changes_result=False, ge=1 << 20
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
    """Three data sets, each made from the one before: questions, their vectors, their passages."""
    manifest = index_manifest(settings.index)
    index = manifest.details["index"]
    threads = threads_per_worker(settings.num_threads, workers)
    loader = QuestionEncoderLoader(
        model=settings.encoder,
        device=settings.device,
        dtype=settings.dtype,
        allow_pickle=settings.allow_pickle,
        num_threads=threads,
        max_tokens=settings.max_tokens,
    )
    encoder = loader.load().describe()
    warning = check_encoders_belong(encoder, index, settings)
    if settings.n_docs > index["rows"]:
        _warn(
            f"--n_docs {settings.n_docs}: {settings.index} holds {index['rows']} passages, all of them are returned"
        )
    sources = plan_question_sources(
        STORAGE, input_files(STORAGE, [settings.questions]), settings.questions_format
    )
    formats = sorted({source.format for source in sources})
    if settings.questions_format == "auto":
        print(f"retrieve: {settings.questions} read as {', '.join(formats)}")

    questions = Target(
        folder=join(settings.output, WORK, "questions"),
        table="questions",
        stage="retrieve",
        settings={"questions_formats": formats},
        inputs=raw_inputs(STORAGE, [source.path for source in sources]),
        max_rejects=1.0,  # judged with the whole stage
        unique=True,
    )
    vectors = Target(
        folder=join(settings.output, WORK, "question_vectors"),
        table="question_vectors",
        stage="retrieve",
        settings={"encoder": encoder, "unit_rows": settings.unit_rows},
        inputs=[Input(questions.folder, questions.fingerprint)],
        max_rejects=1.0,
        schema=question_vectors_schema(index["dimension"]),
    )
    retrievals = Target(
        folder=settings.output,
        table="retrievals",
        stage="retrieve",
        settings=settings.result_settings() | {"encoder": encoder, "dtype": encoder["dtype"]},
        inputs=[Input(settings.index, manifest.fingerprint), *questions.inputs],
        rows_per_part=settings.rows_per_part,
        max_rejects=settings.max_rejects,
        carried=(questions.folder, vectors.folder),
        details={
            "question_encoder": encoder | {"model": settings.encoder},
            "index": {
                "path": settings.index,
                "fingerprint": manifest.fingerprint,
                "encoder": index["encoder"],
            },
            "warnings": [warning] if warning else [],
        },
    )
    encode = EncodeQuestions(
        questions.folder,
        loader,
        unit_rows=settings.unit_rows,
        batch_tokens=settings.batch_tokens or default_batch_tokens(settings.device),
    )
    search = SearchIndex(
        settings.index,
        vectors.folder,
        n_docs=settings.n_docs,
        question_block=settings.question_block,
        memory_bytes=settings.memory_bytes,
        num_threads=threads,
    )
    return [
        Task(questions, MakeDataset(questions, ReadQuestions(sources))),
        Task(vectors, MakeDataset(vectors, encode)),
        Task(retrievals, MakeDataset(retrievals, search)),
    ]


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
)
main = STAGE.main

if __name__ == "__main__":
    raise SystemExit(main())
