"""Questions from files to committed vectors: the first two data sets of `retrieve`, and of tuning an index."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.dataset.manifest import Input, read_manifest
from pipelines.dataset.reader import Dataset, open_dataset
from pipelines.dataset.target import Target
from pipelines.filesystems import STORAGE
from pipelines.launch import Task
from pipelines.options import ModelSettings, option
from pipelines.sources import input_files, raw_inputs
from pipelines.terminal import printable_lines
from pipelines.transforms.models import QuestionEncoderLoader, default_batch_tokens
from pipelines.transforms.questions import EncodeQuestions, ReadQuestions
from pipelines.transforms.units import MakeDataset
from rag_core.questions import QUESTION_FORMATS, plan_question_sources
from rag_core.storage import join
from schemas.question_vectors import question_vectors_schema

QuestionsFormat = Literal["auto", *QUESTION_FORMATS]  # type: ignore[valid-type]


def questions_format_option() -> Any:
    """The option that says how question files are read."""
    return option("of the questions; auto decides by content", "auto", changes_result=False)


def question_encoder_loader(
    settings: ModelSettings, model: str, max_tokens: int, num_threads: int
) -> QuestionEncoderLoader:
    """What a worker loads to encode questions."""
    return QuestionEncoderLoader(
        model=model,
        device=settings.device,
        dtype=settings.dtype,
        allow_pickle=settings.allow_pickle,
        num_threads=num_threads,
        max_tokens=max_tokens,
    )


def questions_to_read(stage: str, work: str, questions: str, questions_format: str) -> Task:
    """The data set of the questions in files, under a stage's work folder.

    Raises:
      UsageError: no file, or an unknown format.
    """
    sources = plan_question_sources(STORAGE, input_files(STORAGE, [questions]), questions_format)
    formats = sorted({source.format for source in sources})
    if questions_format == "auto":
        print(printable_lines(f"{stage}: {questions} read as {', '.join(formats)}"))
    target = Target(
        folder=join(work, "questions"),
        table="questions",
        stage=stage,
        settings={"questions_formats": formats},
        inputs=raw_inputs(STORAGE, [source.path for source in sources]),
        max_rejects=1.0,  # judged with the whole stage
        unique=True,
    )
    return Task(target, MakeDataset(target, ReadQuestions(sources)))


@dataclass(frozen=True)
class EncodedQuestions:
    """The two data sets, questions and their vectors, under a stage's work folder.

    Attributes:
      encoder: what is recorded of the question encoder (`QuestionEncoder.describe`).
    """

    encoder: dict[str, Any]
    questions: Target
    vectors: Target
    tasks: list[Task]

    @classmethod
    def plan(
        cls,
        stage: str,
        work: str,
        questions: str,
        questions_format: str,
        loader: QuestionEncoderLoader,
        *,
        unit_rows: int,
        batch_tokens: int | None,
        kept: str | None = None,
    ) -> "EncodedQuestions":
        """Decides the files' formats and loads the encoder to know its vectors.

        Args:
          kept: a folder where the vectors stay, each set of them in a folder of its own; vectors are taken from
            those there. None: they are dropped with the stage's work folder.

        Raises:
          UsageError: as `questions_to_read`, or a model that cannot be loaded.
        """
        encoder = loader.load().describe()
        reading = questions_to_read(stage, work, questions, questions_format)
        read = reading.target
        vectors = Target(
            folder=join(work, "question_vectors"),
            table="question_vectors",
            stage=stage,
            settings={"encoder": encoder, "unit_rows": unit_rows},
            inputs=[Input(read.folder, read.fingerprint)],
            max_rejects=1.0,
            schema=question_vectors_schema(encoder["dimension"]),
        )
        if kept is not None:
            vectors = dataclasses.replace(vectors, folder=join(kept, vectors.fingerprint[:16]))
        earlier = _kept_vectors(kept, vectors) if kept is not None else ()
        encode = EncodeQuestions(
            read.folder,
            loader.expecting(encoder["fingerprint"]),
            unit_rows=unit_rows,
            batch_tokens=batch_tokens or default_batch_tokens(loader.device),
            earlier=earlier,
        )
        return cls(encoder, read, vectors, [reading, Task(vectors, MakeDataset(vectors, encode))])


def _kept_vectors(folder: str, target: Target) -> tuple[Dataset, ...]:
    """The sets of vectors in a folder that the target's encoder gave."""
    below = join(folder, "")
    names = {path.removeprefix(below).split("/")[0] for path in STORAGE.list_files(folder)}
    found = []
    for path in (join(folder, name) for name in sorted(names)):
        manifest = read_manifest(STORAGE, path)
        if manifest is None or not manifest.rows or manifest.fingerprint == target.fingerprint:
            continue
        if manifest.settings.get("encoder") == target.settings["encoder"]:
            found.append(open_dataset(STORAGE, path, "question_vectors"))
    return tuple(found)
