"""`rag-beam train_retriever`: question and passage encoder from questions with their passages (DPR)."""

import functools
from typing import Any, Literal

from pydantic import model_validator

from pipelines.dataset.manifest import Input
from pipelines.dataset.target import Target
from pipelines.filesystems import STORAGE
from pipelines.options import option
from pipelines.sources import raw_inputs
from pipelines.training.questions import Ledger, formats_of, read_training_questions, training_sources
from pipelines.training.settings import TrainSettings
from pipelines.training.stage import Training, TrainingPlan, TrainStage, training_report
from rag_core.corpus.source import Source
from rag_core.encoders.encoder import check_passage_template
from rag_core.encoders.sentence_transformers import MODULES_FILE, is_normalised
from rag_core.errors import UsageError
from rag_core.model_files import model_fingerprint, resolve_model
from rag_core.training.bi_encoder import BiEncoder
from rag_core.training.replicas import Replicas
from rag_core.training.retriever import RetrieverLearner, RetrieverTraining
from rag_core.training.run import Direction, TrainingRun
from rag_core.training.sources import TRAINING_FORMATS

_COSINE_SCALE = 20.0  # usual for scores of at most 1, and sentence-transformers' own default

TrainingFormat = Literal["auto", *TRAINING_FORMATS]  # type: ignore[valid-type]


class TrainRetrieverSettings(TrainSettings):
    """Options of `rag-beam train_retriever`."""

    questions: list[str] = option(
        "to train on: DPR's training JSON, SQuAD, or retrievals; files, globs or folders", path="data"
    )
    questions_format: TrainingFormat = option(
        "of --questions; auto decides by content", "auto", changes_result=False
    )
    validation: list[str] | None = option(
        "questions held out, in any of the same formats; without them the last weights are saved",
        None,
        path="data",
    )
    validation_format: TrainingFormat = option(
        "of --validation; auto decides by content", "auto", changes_result=False
    )
    question_encoder: str | None = option(
        "DPR question encoder to start from, or a RAG checkpoint with one", None, path="model"
    )
    passage_encoder: str | None = option("DPR passage encoder to start from", None, path="model")
    encoder: str | None = option(
        "in place of these two: a sentence-transformers model, one tower for questions and passages",
        None,
        path="model",
    )
    passage_template: str = option(
        "how title and text of a passage become one text; --encoder only", "{title} {text}"
    )
    batch_questions: int = option(
        "questions of a step; the others' passages are a question's negatives, so more is better", 64, ge=1
    )
    chunk_texts: int = option(
        "texts whose computation is in memory at a time: bounds memory, whatever the batch", 32, ge=1
    )
    hard_negatives: int = option("of each question in a batch, drawn from its own", 1, ge=0)
    questions_per_title: int = option(
        "so many questions whose passages share a title are in one batch, as far as there are: passages of one "
        "document are then each other's negatives, and encoded once; 1: questions are mixed at random",
        1,
        ge=1,
    )
    score_scale: float | None = option(
        "inner products are multiplied by it before the softmax; default: 1, but 20 where an --encoder "
        "normalises its vectors, whose scores are at most 1",
        None,
        gt=0,
    )
    max_tokens: int = option("tokens of a question or passage", 256, ge=8)
    best_by: Literal["average_rank", "recall@1", "recall@5", "recall@20"] = option(
        "validation score by which the weights to save are chosen", "average_rank"
    )

    @model_validator(mode="after")
    def _options_go_together(self) -> "TrainRetrieverSettings":
        two = (self.question_encoder, self.passage_encoder)
        if (self.encoder is None) == (two == (None, None)) or (self.encoder is None and None in two):
            raise ValueError("give --question_encoder and --passage_encoder, or --encoder in place of both")
        if self.encoder is None and "passage_template" in self.model_fields_set:
            raise ValueError("--passage_template: belongs to --encoder; DPR takes title and text as a pair")
        return self


def plan(settings: TrainRetrieverSettings) -> TrainingPlan:
    """The model to make: formats and the scale of scores decided, inputs and models hashed."""
    check_passage_template(settings.passage_template)
    questions = training_sources(settings.questions, settings.questions_format, "questions")
    validation = (
        training_sources(settings.validation, settings.validation_format, "validation")
        if settings.validation
        else []
    )
    models = [
        Input(name, model_fingerprint(resolve_model(name)))
        for name in (settings.question_encoder, settings.passage_encoder, settings.encoder)
        if name is not None
    ]
    scale = _score_scale(settings)
    resolved: dict[str, Any] = {
        "questions_formats": formats_of(questions),
        "validation_formats": formats_of(validation),
        "validation_files": len(validation),  # of the inputs, those before the models
        "score_scale": scale,
        "towers": 1 if settings.encoder else 2,
    }
    target = Target(
        folder=settings.output,
        table="model",
        stage="train_retriever",
        settings=settings.result_settings() | resolved,
        inputs=[
            *raw_inputs(STORAGE, [source.path for source in questions]),
            *raw_inputs(STORAGE, [source.path for source in validation]),
            *models,
        ],
        max_rejects=settings.max_rejects,
    )
    notes = [
        f"--{option} {' '.join(patterns)} read as {', '.join(formats_of(sources))}"
        for option, patterns, sources, wanted in (
            ("questions", settings.questions, questions, settings.questions_format),
            ("validation", settings.validation or [], validation, settings.validation_format),
        )
        if sources and wanted == "auto"
    ]
    begin = functools.partial(_begin, settings, questions, validation, scale)
    return TrainingPlan(target, begin, notes)


def _begin(
    settings: TrainRetrieverSettings,
    question_sources: list[Source],
    validation_sources: list[Source],
    score_scale: float,
    replicas: Replicas,
) -> Training:
    """Reads the questions and loads the encoders."""
    ledger = Ledger()
    questions = read_training_questions(question_sources, ledger)
    validation = read_training_questions(validation_sources, ledger)[: settings.max_validation]
    ledger.counts.extra["validation_questions"] = len(validation)
    if not questions:
        raise UsageError(
            f"--questions {' '.join(settings.questions)}: none of its questions has a passage that answers it"
        )
    if validation_sources and not validation:
        raise UsageError(
            f"--validation {' '.join(settings.validation or [])}: none of its questions has a passage that answers it"
        )
    bi_encoder = _load(settings, replicas)
    learner = RetrieverLearner(
        bi_encoder,
        questions,
        RetrieverTraining(
            batch_questions=settings.batch_questions,
            chunk_texts=settings.chunk_texts,
            hard_negatives=settings.hard_negatives,
            questions_per_title=settings.questions_per_title,
            epochs=settings.epochs,
            max_steps=settings.max_steps,
            score_scale=score_scale,
            seed=settings.seed,
        ),
        validation,
        replicas,
    )
    better: Direction = "lower" if settings.best_by == "average_rank" else "higher"
    run = TrainingRun(learner, settings.training(), (settings.best_by, better), replicas)
    return Training(run, bi_encoder.save, ledger.counts, ledger.rejects)


def _load(settings: TrainRetrieverSettings, replicas: Replicas) -> BiEncoder:
    options: dict[str, Any] = {
        "device": replicas.device,
        "max_tokens": settings.max_tokens,
        "precision": settings.precision,
        "allow_pickle": settings.allow_pickle,
    }
    if settings.encoder is not None:
        return BiEncoder.load_one_tower(
            settings.encoder, passage_template=settings.passage_template, **options
        )
    assert settings.question_encoder is not None  # the settings see to both
    assert settings.passage_encoder is not None
    return BiEncoder.load(settings.question_encoder, settings.passage_encoder, **options)


def _score_scale(settings: TrainRetrieverSettings) -> float:
    if settings.score_scale is not None:
        return settings.score_scale
    if settings.encoder is None:
        return 1.0
    folder = resolve_model(settings.encoder)
    # another kind of folder is refused when it is loaded
    return _COSINE_SCALE if (folder / MODULES_FILE).is_file() and is_normalised(folder) else 1.0


STAGE = TrainStage(
    name="train_retriever",
    settings=TrainRetrieverSettings,
    summary="Trains a question encoder and a passage encoder (DPR), or one encoder for both, on questions whose\n"
    "passages are known: each question's passage against all others of a batch. Several processes, started by\n"
    "`accelerate launch` or `torchrun`, share each batch.",
    reads="DPR's training JSON, SQuAD, or retrievals; the encoders to start from",
    writes="a model: question_encoder/ and passage_encoder/, or encoder/; history.parquet and history.png",
    example="rag-beam train_retriever --questions train.json --validation dev.json --encoder "
    "sentence-transformers/all-MiniLM-L6-v2 --epochs 3 --output out/retriever",
    plan=plan,
    report=training_report,
)
main = STAGE.main

if __name__ == "__main__":
    raise SystemExit(main())
