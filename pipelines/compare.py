"""`rag-beam compare`: which answers or labels of two runs differ, and because of which passages."""

from pipelines.dataset.manifest import Manifest
from pipelines.dataset.reader import find_table, open_dataset
from pipelines.dataset.target import Target
from pipelines.filesystems import STORAGE
from pipelines.launch import Stage, Task
from pipelines.options import StageSettings, option
from pipelines.transforms.changes import FindChanges
from pipelines.transforms.units import MakeDataset

_TABLES = ("answers", "labels")


class CompareSettings(StageSettings):
    """Options of `rag-beam compare`."""

    before: str = option("answers or labels of the earlier run", path="data")
    after: str = option("answers or labels of the later run", path="data")
    unit_rows: int = option("rows of a unit: what is compared and resumed as a whole", 10_000, ge=1)
    rows_per_part: int = option("the most rows of a part", 50_000, ge=1)


def prepare(settings: CompareSettings, workers: int) -> list[Task]:
    """The changes to find."""
    after = open_dataset(STORAGE, settings.after, find_table(STORAGE, settings.after, _TABLES))
    before = open_dataset(STORAGE, settings.before, after.table)
    target = Target(
        folder=settings.output,
        table="changes",
        stage="compare",
        settings=settings.result_settings(),
        inputs=[before.as_input(), after.as_input()],
        rows_per_part=settings.rows_per_part,
        max_rejects=settings.max_rejects,
    )
    return [Task(target, MakeDataset(target, FindChanges(before, after, unit_rows=settings.unit_rows)))]


def report(settings: CompareSettings, manifest: Manifest) -> str:
    """How many questions changed in which way."""
    counts = manifest.counts.extra
    return (
        f"  {counts['new_answer']:,} answers changed, {counts['same_answer']:,} are the same from other passages, "
        f"{counts['new_question']:,} questions are new, {counts['gone_question']:,} are gone"
    )


STAGE = Stage(
    name="compare",
    settings=CompareSettings,
    summary="Finds the questions whose answer or label differs between two runs, and the passages that differ.",
    reads="answers or labels, twice",
    writes="changes",
    example="rag-beam compare --before out/answers_2018 --after out/answers_2024 --output out/changes",
    prepare=prepare,
    report=report,
)
main = STAGE.main

if __name__ == "__main__":
    raise SystemExit(main())
