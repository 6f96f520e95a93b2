"""`rag-beam evaluate`: answers, labels or retrievals against references."""

from typing import Any, Literal

from pipelines.dataset.manifest import Manifest
from pipelines.dataset.reader import find_table, open_dataset
from pipelines.dataset.target import Target
from pipelines.filesystems import STORAGE
from pipelines.launch import Stage, Task
from pipelines.options import StageSettings, option
from pipelines.sources import input_files, raw_inputs
from pipelines.transforms.scores import EXPORTS, EvaluatePredictions, EvaluationSettings
from pipelines.transforms.units import MakeDataset
from rag_core.errors import UsageError
from rag_core.metrics import (
    ANSWER_METRICS,
    CORPUS_METRICS,
    CUTOFF_FAMILIES,
    LABEL_METRICS,
    MINUS_BASELINE,
    RETRIEVAL_METRICS,
    select_metrics,
)
from rag_core.questions import MAX_SLICES, QUESTION_FORMATS, check_slices, parse_ways, plan_question_sources
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
    slice_by: list[str] | None = option(
        "fields of the references (JSON lines, CSV, Parquet): the scores of each of their values too, in rows with "
        "the slice FIELD=VALUE; several joined by a comma give their combinations; references without a value "
        f"are in no slice; at most {MAX_SLICES} values",
        None,
    )
    baseline: str | None = option(
        "other predictions of the same table: how much better than these, as METRIC"
        f"{MINUS_BASELINE}, the mean over the questions of the difference, with the interval of the paired "
        "bootstrap; a question missing from either counts 0 there; not for "
        f"{', '.join(CORPUS_METRICS)}, which are no means over questions",
        None,
        path="data",
    )

    def result_settings(self) -> dict[str, Any]:
        """Without `slice_by` where there is none: scores made before it was there are the same scores."""
        settings = super().result_settings()
        return settings if self.slice_by else {k: v for k, v in settings.items() if k != "slice_by"}


def prepare(settings: EvaluateSettings, workers: int) -> list[Task]:
    """The scores to make."""
    predictions = open_dataset(
        STORAGE, settings.predictions, find_table(STORAGE, settings.predictions, tuple(_METRICS))
    )
    metrics = select_metrics(settings.metrics, _METRICS[predictions.table], CUTOFF_FAMILIES)
    ways = parse_ways(settings.slice_by or [])
    baseline = None
    if settings.baseline is not None:
        baseline = open_dataset(STORAGE, settings.baseline, predictions.table)
        if set(metrics) <= set(CORPUS_METRICS):
            raise UsageError(
                f"--baseline {settings.baseline}: differences need a metric that is a mean over questions, "
                f"got --metrics {' '.join(metrics)}; ask for another metric too"
            )
    sources = plan_question_sources(
        STORAGE, input_files(STORAGE, [settings.references]), settings.references_format
    )
    formats = sorted({source.format for source in sources})
    check_slices(STORAGE, sources, ways)
    regex = settings.regex_answers or formats == ["curatedtrec"]
    inputs = [predictions.as_input(), *raw_inputs(STORAGE, [source.path for source in sources])]
    target = Target(
        folder=settings.output,
        table="scores",
        stage="evaluate",
        settings=settings.result_settings() | {"references_formats": formats, "regex_answers": regex},
        inputs=inputs if baseline is None else [*inputs, baseline.as_input()],
        max_rejects=settings.max_rejects,
    )
    wanted = EvaluationSettings(
        metrics=tuple(settings.metrics) if settings.metrics else None,
        regex=regex,
        exports=tuple(settings.exports),
        slice_by=ways,
    )
    work = EvaluatePredictions(settings.output, predictions, sources, wanted, baseline)
    return [Task(target, MakeDataset(target, work))]


def report(settings: EvaluateSettings, manifest: Manifest) -> str:
    """The scores as a table for people."""
    rows = [
        row
        for part in manifest.parts
        for batch in read_batches(STORAGE, join(settings.output, part.name), TABLES["scores"])
        for row in batch.to_pylist()
    ]
    width = max([22, *(len(row["metric"]) + 1 for row in rows)])
    lines = [f"  {'metric':<{width}}{'value':>8}   {'95 % interval':<19}{'n':>9}  slice"]
    for row in rows:
        if row["metric"].endswith(MINUS_BASELINE):
            value, interval = f"{row['value']:+.4f}", f"{row['ci_low']:+.4f} to {row['ci_high']:+.4f}"
        else:
            value, interval = f"{row['value']:.4f}", f"{row['ci_low']:.4f}–{row['ci_high']:.4f}"
        lines.append(
            f"  {row['metric']:<{width}}{value:>8}   {interval:<19}{row['n']:>9,}  {row['slice'] or ''}"
        )
    for system in ("prediction", "baseline"):
        without = manifest.counts.extra[f"references_without_{system}"]
        if without:
            lines.append(f"  {without:,} references have no {system} and count 0")
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
