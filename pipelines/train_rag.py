"""`rag-beam train_rag`: question encoder and generator, end to end (Lewis et al. 2020, section 2.4)."""

import functools
from typing import Any, Literal

from pydantic import field_validator, model_validator

from pipelines.dataset.manifest import Input, Manifest
from pipelines.dataset.target import Target
from pipelines.encoded_questions import QuestionsFormat, questions_format_option
from pipelines.index_fit import check_encoders_belong
from pipelines.options import option
from pipelines.shard_cache import ShardCacheSettings
from pipelines.training.questions import Ledger, formats_of
from pipelines.training.rag_questions import RagSources
from pipelines.training.settings import TrainSettings
from pipelines.training.stage import Training, TrainingPlan, TrainStage, training_report
from pipelines.transforms.index_manifest import index_manifest
from rag_core.classification import LabelSet
from rag_core.encoders.loading import PASSAGE_ENCODER_KEY
from rag_core.errors import UsageError
from rag_core.mips.index import MipsIndex
from rag_core.model_files import model_fingerprint, read_config, resolve_model
from rag_core.training.documents import (
    DocumentSource,
    GivenDocuments,
    NoDocuments,
    SearchedDocuments,
    collapse_warning,
)
from rag_core.training.rag import RagLearner, RagTraining
from rag_core.training.rag_model import RagModel
from rag_core.training.replicas import Replicas
from rag_core.training.run import Direction, TrainingRun

MODEL_FOLDER = "model"


class TrainRagSettings(ShardCacheSettings, TrainSettings):
    """Options of `rag-beam train_rag`."""

    questions: list[str] | None = option(
        "questions with answers to train on; their documents are searched for in --index", None, path="data"
    )
    retrievals: list[str] | None = option(
        "in place of --questions: retrievals with answers; a question keeps the documents and scores that it "
        "has there (of BM25, or of a retriever that is to stay as it is)",
        None,
        path="data",
    )
    validation: list[str] | None = option(
        "held out: questions, or retrievals where those are trained on; without them the last weights are "
        "saved",
        None,
        path="data",
    )
    questions_format: QuestionsFormat = questions_format_option()
    index: str | None = option("the MIPS index to search at every step", None, path="data")
    model: str = option("the generator to start from: a seq2seq model or a RAG checkpoint", path="model")
    question_encoder: str | None = option(
        "the question encoder to start from: DPR's, or a RAG checkpoint's; default: that of --model",
        None,
        path="model",
    )
    model_type: Literal["rag_sequence", "rag_token"] = option("one document an answer, or a mixture a token")
    n_docs: int = option("documents of a question (K); 0: closed book, the question alone", 5, ge=0)
    freeze_retriever: bool = option("leave the question encoder as it is", False)
    label_set: list[str] | None = option(
        "train to classify: labels, each LABEL or LABEL=target text; a question's answer is its label", None
    )
    label_smoothing: float = option("of the targets", 0.0, ge=0, lt=1)
    abstention: float = option(
        "weight of the loss by which the generator learns to say nothing where a document holds no answer, lest it "
        "copies something else; answer with --min_new_tokens 1",
        0.0,
        ge=0,
    )
    batch_questions: int = option("questions of a step", 64, ge=1)
    chunk_questions: int = option(
        "questions whose computation is in memory at a time: bounds memory, whatever the batch", 8, ge=1
    )
    epochs: int = option("times that every question is used, with each of its answers", 10, ge=1)
    max_input_tokens: int = option("tokens of a context: title, text and question", 300, ge=8)
    max_question_tokens: int = option("tokens of a question that are encoded", 256, ge=8)
    best_by: Literal["loss", "correct"] = option(
        "validation score by which the weights to save are chosen: loss, or the share answered or labelled right "
        "(between equals by loss)",
        "loss",
    )
    max_target_tokens: int = option(
        "tokens of an answer, the end token included; longer ones are cut", 32, ge=1
    )

    @field_validator("label_set")
    @classmethod
    def _check_labels(cls, labels: list[str] | None) -> list[str] | None:
        if labels is not None:
            LabelSet.parse(labels)
        return labels

    @model_validator(mode="after")
    def _options_go_together(self) -> "TrainRagSettings":
        if (self.questions is None) == (self.retrievals is None):
            raise ValueError("give --questions, or --retrievals in their place")
        if self.retrievals is not None and self.index is not None:
            raise ValueError(
                "--index: --retrievals bring their documents; give --questions to search for them"
            )
        if self.retrievals is not None and self.n_docs == 0:
            raise ValueError("--n_docs 0: closed book reads no documents; give --questions")
        if self.questions is not None and (self.index is None) == (self.n_docs > 0):
            raise ValueError("--questions need an --index to search, or --n_docs 0 for closed book")
        if self.abstention and (self.label_set is not None or self.n_docs == 0):
            raise ValueError(
                "--abstention: is about documents without an answer; neither labels nor closed book"
            )
        if self.freeze_retriever and self.index is None:
            raise ValueError("--freeze_retriever: without --index no question encoder is trained")
        return self

    def result_settings(self) -> dict[str, Any]:
        """Where their documents come from is told by the inputs."""
        return super().result_settings() | {"searched": self.index is not None}


def plan(settings: TrainRagSettings) -> TrainingPlan:
    """The model to make: inputs and models hashed, the question encoder held against the index."""
    trained_on = RagSources.plan(settings.questions, settings.retrievals, settings.questions_format)
    validation = RagSources.plan(
        settings.validation if settings.questions is not None else None,
        settings.validation if settings.retrievals is not None else None,
        settings.questions_format,
    )
    encoder = _question_encoder(settings)
    config = {} if encoder is None else _config(encoder)
    passage_encoder = config.get(PASSAGE_ENCODER_KEY)
    notes = []
    validation_inputs = validation.inputs
    inputs = [*trained_on.inputs, *validation_inputs]
    for model in dict.fromkeys([settings.model, encoder]):
        if model is not None:
            inputs.append(Input(model, model_fingerprint(resolve_model(model))))
    index = None
    if settings.index is not None:
        index = index_manifest(settings.index)
        inputs.append(Input(settings.index, index.fingerprint))
        notes += _check_index(settings, encoder, config, index)
        made_by = index.details["index"]["encoder"]
        passage_encoder = made_by["fingerprint"] if made_by else passage_encoder
    if trained_on.files and settings.questions_format == "auto":
        notes.append(f"--questions read as {', '.join(formats_of(trained_on.files))}")
    target = Target(
        folder=settings.output,
        table="model",
        stage="train_rag",
        settings=settings.result_settings()
        | {"validation_files": len(validation_inputs), "questions_formats": formats_of(trained_on.files)},
        inputs=inputs,
        max_rejects=settings.max_rejects,
        details={"kind": settings.model_type},
    )
    begin = functools.partial(_begin, settings, encoder, trained_on, validation, index, passage_encoder)
    return TrainingPlan(target, begin, notes)


def _question_encoder(settings: TrainRagSettings) -> str | None:
    """Where the question encoder is: the one named, else that of a RAG checkpoint, else none.

    Raises:
      UsageError: documents are to be searched for, and there is none.
    """
    if settings.question_encoder is not None:
        return settings.question_encoder
    if _config(settings.model).get("model_type") == "rag":
        return settings.model
    if settings.index is not None:
        raise UsageError(
            f"--model {settings.model}: is no RAG checkpoint, so it has no question encoder to search {settings.index} "
            "with; give --question_encoder"
        )
    return None


def _config(model: str) -> dict[str, Any]:
    return read_config(resolve_model(model) / "config.json")


def _check_index(
    settings: TrainRagSettings, encoder: str | None, config: dict[str, Any], index: Manifest
) -> list[str]:
    """Refuses an index of another vector space than the encoder's; what is not recorded is a note."""
    assert settings.index is not None
    assert encoder is not None  # `_question_encoder` sees to it
    dpr = config.get("question_encoder", config)
    described = {
        "dimension": dpr.get("projection_dim") or dpr.get("hidden_size"),
        "passage_encoder_fingerprint": config.get(PASSAGE_ENCODER_KEY),
    }
    warning = check_encoders_belong(encoder, described, settings.index, index.details["index"])
    return [f"warning: {warning}"] if warning else []


def _begin(
    settings: TrainRagSettings,
    encoder: str | None,
    trained_on: RagSources,
    validation: RagSources,
    index: Manifest | None,
    passage_encoder: str | None,
    replicas: Replicas,
) -> Training:
    """Loads the models, reads the questions, opens the index."""
    model = RagModel.load(
        settings.model,
        encoder,
        device=str(replicas.device),
        max_input_tokens=settings.max_input_tokens,
        max_question_tokens=settings.max_question_tokens,
        precision=settings.precision,
        allow_pickle=settings.allow_pickle,
    )
    if index is None or settings.freeze_retriever:
        model.freeze_question_encoder()
    ledger = Ledger()
    questions = trained_on.read(settings.n_docs, model.generator.contexts, ledger)
    held_out = validation.read(settings.n_docs, model.generator.contexts, ledger)[: settings.max_validation]
    ledger.counts.extra["validation_questions"] = len(held_out)
    if not questions:
        given = [*(settings.questions or []), *(settings.retrievals or [])]
        raise UsageError(f"{' '.join(given)}: none of its questions has an answer that can be trained on")
    if settings.validation and not held_out:
        raise UsageError(f"--validation {' '.join(settings.validation)}: none of its questions has an answer")
    learner = RagLearner(
        model,
        _documents(settings, model, index, replicas),
        questions,
        RagTraining(
            model_type=settings.model_type,
            batch_questions=settings.batch_questions,
            chunk_questions=settings.chunk_questions,
            epochs=settings.epochs,
            max_steps=settings.max_steps,
            label_smoothing=settings.label_smoothing,
            abstention=settings.abstention,
            max_target_tokens=settings.max_target_tokens,
            precision=settings.precision,
            seed=settings.seed,
        ),
        held_out,
        LabelSet.parse(settings.label_set) if settings.label_set else None,
        replicas,
    )
    run = TrainingRun(learner, settings.training(), _monitor(settings), replicas)
    return Training(
        run,
        lambda folder: model.save(
            folder / MODEL_FOLDER, settings.model_type, max(1, settings.n_docs), passage_encoder
        ),
        ledger.counts,
        ledger.rejects,
        watch=lambda row: (
            collapse_warning(row.figures, settings.batch_questions, settings.n_docs)
            if index is not None
            else None
        ),
    )


def _monitor(settings: TrainRagSettings) -> tuple[str, Direction]:
    """The score of `RagLearner.validate` that tells the best weights."""
    if settings.best_by == "loss":
        return "loss", "lower"
    return "label_accuracy" if settings.label_set else "exact_match", "higher"


def _documents(
    settings: TrainRagSettings, model: RagModel, index: Manifest | None, replicas: Replicas
) -> DocumentSource:
    if index is not None:
        assert settings.index is not None
        assert model.question_tower is not None
        opened = MipsIndex.open(settings.shard_cache().storage(), settings.index, index.details["index"])
        return SearchedDocuments(model.question_tower, opened, settings.n_docs)
    if settings.retrievals is not None:
        return GivenDocuments(settings.n_docs, replicas.device)
    return NoDocuments(replicas.device)


STAGE = TrainStage(
    name="train_rag",
    settings=TrainRagSettings,
    summary="Trains question encoder and generator together on questions and answers alone: documents are\n"
    "searched for at every step with the question encoder as it then is, and −log p(y|x) is minimised over both.\n"
    "Passage encoder and index stay as they are. Several processes, started by `accelerate launch` or\n"
    "`torchrun`, share each batch.",
    reads="questions with answers and a MIPS index, or retrievals with answers; the models to start from",
    writes="a model: model/, a Hugging Face RAG checkpoint (a seq2seq model where there is no question encoder); "
    "history.parquet and history.png",
    example="rag-beam train_rag --questions train.jsonl --validation dev.jsonl --index out/index --model "
    "facebook/bart-base --question_encoder out/retriever/question_encoder --model_type rag_sequence --output out/rag",
    plan=plan,
    report=training_report,
)
main = STAGE.main

if __name__ == "__main__":
    raise SystemExit(main())
