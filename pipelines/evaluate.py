"""`rag-beam evaluate`: answers, labels or retrievals against references."""

from typing import Literal

from pipelines.dataset.manifest import Manifest
from pipelines.dataset.reader import find_table, open_dataset
from pipelines.dataset.target import Target
from pipelines.filesystems import STORAGE
from pipelines.launch import Stage, Task
from pipelines.options import StageSettings, option
from pipelines.sources import input_files, raw_inputs
from pipelines.transforms.scores import EXPORTS, EvaluatePredictions, EvaluationSettings
from pipelines.transforms.units import MakeDataset
from rag_core.metrics import (
    ANSWER_METRICS,
    CUTOFF_FAMILIES,
    LABEL_METRICS,
    RETRIEVAL_METRICS,
    select_metrics,
)
from rag_core.questions import QUESTION_FORMATS, plan_question_sources
from rag_core.storage import join
from rag_core.tables import read_batches
from schemas import TABLES

_METRICS = {"answers": ANSWER_METRICS, "labels": LABEL_METRICS, "retrievals": RETRIEVAL_METRICS}


class EvaluateSettings(StageSettings):
    """Options of `rag-beam evaluate`."""

    predictions: str = option("answers, labels or retrievals", path="data")
    references: str = option(
        "questions with gold answers or labels: a file, a glob, or a folder", path="data"
    )
    references_format: Literal["auto", *QUESTION_FORMATS] = option(
        "auto decides by content", "auto", changes_result=False
    )
    metrics: list[str] | None = option(
        f"default: all that apply of {', '.join(ANSWER_METRICS)} (answers); {', '.join(LABEL_METRICS)} (labels); "
        f"{', '.join(RETRIEVAL_METRICS)} (retrievals)",
        None,
    )
    regex_answers: bool = option("gold answers are regular expressions, as CuratedTREC's are", False)
    exports: list[Literal[*EXPORTS]] = option(
        "other formats to write beside the scores: DPR's retrieval JSON, KILT predictions, a TREC run", []
    )


def prepare(settings: EvaluateSettings, workers: int) -> list[Task]:
    """The scores to make."""
    predictions = open_dataset(
        STORAGE, settings.predictions, find_table(STORAGE, settings.predictions, tuple(_METRICS))
    )
    select_metrics(settings.metrics, _METRICS[predictions.table], CUTOFF_FAMILIES)
    sources = plan_question_sources(
        STORAGE, input_files(STORAGE, [settings.references]), settings.references_format
    )
    formats = sorted({source.format for source in sources})
    regex = settings.regex_answers or formats == ["curatedtrec"]
    target = Target(
        folder=settings.output,
        table="scores",
        stage="evaluate",
        settings=settings.result_settings() | {"references_formats": formats, "regex_answers": regex},
        inputs=[predictions.as_input(), *raw_inputs(STORAGE, [source.path for source in sources])],
        max_rejects=settings.max_rejects,
    )
    wanted = EvaluationSettings(
        metrics=tuple(settings.metrics) if settings.metrics else None,
        regex=regex,
        exports=tuple(settings.exports),
    )
    work = EvaluatePredictions(settings.output, predictions, sources, wanted)
    return [Task(target, MakeDataset(target, work))]


def report(settings: EvaluateSettings, manifest: Manifest) -> str:
    """The scores as a table for people."""
    lines = [f"  {'metric':<22}{'value':>8}   {'95 % interval':<17}{'n':>9}  slice"]
    for part in manifest.parts:
        for batch in read_batches(STORAGE, join(settings.output, part.name), TABLES["scores"]):
            for row in batch.to_pylist():
                interval = f"{row['ci_low']:.4f}–{row['ci_high']:.4f}"
                lines.append(
                    f"  {row['metric']:<22}{row['value']:>8.4f}   {interval:<17}{row['n']:>9,}  {row['slice'] or ''}"
                )
    without = manifest.counts.extra["references_without_prediction"]
    if without:
        lines.append(f"  {without:,} references have no prediction and count 0")
    return "\n".join(lines)


STAGE = Stage(
    name="evaluate",
    settings=EvaluateSettings,
    summary="Scores answers, labels or retrievals against references, with bootstrap intervals.",
    reads="answers, labels or retrievals; question files with gold answers",
    writes="scores, and the same as a printed table",
    example="rag-beam evaluate --predictions out/answers --references questions.jsonl --output out/scores",
    prepare=prepare,
    report=report,
)
main = STAGE.main

if __name__ == "__main__":
    raise SystemExit(main())
