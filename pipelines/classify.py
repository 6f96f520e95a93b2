"""`rag-beam classify`: a label for each claim, from its retrievals."""

from pydantic import field_validator

from pipelines.answering import AnswererSettings
from pipelines.dataset.reader import Dataset, open_dataset
from pipelines.estimates.forecasts import Estimate, Forecasts
from pipelines.filesystems import STORAGE
from pipelines.launch import Stage, Task
from pipelines.options import option
from pipelines.transforms.answers import ClassifyQuestions
from pipelines.transforms.models import GeneratorLoader
from pipelines.transforms.units import MakeDataset
from rag_core.classification import LabelSet


class ClassifySettings(AnswererSettings):
    """Options of `rag-beam classify`."""

    label_set: list[str] = option("labels, each LABEL or LABEL=target text of the generator", min_length=1)

    @field_validator("label_set")
    @classmethod
    def _check_labels(cls, labels: list[str]) -> list[str]:
        LabelSet.parse(labels)
        return labels


def prepare(settings: ClassifySettings, workers: int) -> list[Task]:
    """The labels to give."""
    retrievals = open_dataset(STORAGE, settings.retrievals, "retrievals")
    target = settings.target("labels", "classify", retrievals.as_input())
    work = _work(settings, retrievals, settings.loader(workers, target), settings.earlier("labels"))
    return [Task(target, MakeDataset(target, work))]


def estimate(settings: ClassifySettings, workers: int, forecasts: Forecasts) -> Estimate:
    """What the labels will take."""
    return settings.estimate(
        "labels", lambda sample, loader: _work(settings, sample, loader), workers, forecasts
    )


def _work(
    settings: ClassifySettings, retrievals: Dataset, loader: GeneratorLoader, earlier: Dataset | None = None
) -> ClassifyQuestions:
    return ClassifyQuestions(
        retrievals,
        loader,
        tuple(settings.label_set),
        n_docs=settings.n_docs,
        unit_rows=settings.unit_rows,
        batch_tokens=settings.batch_tokens,
        own_batches=settings.own_batches,
        earlier=earlier,
    )


STAGE = Stage(
    name="classify",
    settings=ClassifySettings,
    summary="Gives each claim the most probable label of a set, marginalised over its passages.",
    reads="retrievals",
    writes="labels",
    example="rag-beam classify --retrievals out/retrievals --model models/rag_token --label_set SUPPORTS=supported "
    "REFUTES=refuted --output out/labels",
    prepare=prepare,
    estimate=estimate,
)
main = STAGE.main

if __name__ == "__main__":
    raise SystemExit(main())
