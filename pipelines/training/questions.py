"""Training questions from files into memory, with the ledger of what became of each record."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.dataset.ledger import Counts
from pipelines.dataset.target import is_unfinished
from pipelines.filesystems import STORAGE
from pipelines.sources import input_files
from rag_core.corpus.source import Source
from rag_core.errors import UsageError
from rag_core.records import LeftOut, Reject
from rag_core.training.examples import TrainingQuestion
from rag_core.training.sources import plan_training_sources, read_training_source


@dataclass
class Ledger:
    """What became of the records that a train command read."""

    counts: Counts = field(default_factory=Counts)
    rejects: list[Reject] = field(default_factory=list)

    def accepted(self, record: TrainingQuestion | LeftOut | Reject) -> TrainingQuestion | None:
        """Enters a record; returns it where it is accepted."""
        self.counts.read += 1
        if isinstance(record, Reject):
            self.counts.rejected[str(record.reason)] += 1
            self.rejects.append(record)
            return None
        if isinstance(record, LeftOut):
            self.counts.left_out[str(record.reason)] += 1
            return None
        self.counts.accepted += 1
        return record


def training_sources(patterns: Sequence[str], wanted_format: str, option: str) -> list[Source]:
    """The files of `--questions` or `--validation`, each with its format.

    Args:
      option: `questions` or `validation`.

    Raises:
      UsageError: nothing matches, a data set is unfinished, or a file's format is not one of ours.
    """
    for pattern in patterns:
        if is_unfinished(STORAGE, pattern):
            raise UsageError(
                f"--{option} {pattern}: is unfinished; run the stage that makes it again, it goes on where it ended"
            )
    return plan_training_sources(STORAGE, input_files(STORAGE, patterns), wanted_format, f"--{option}_format")


def formats_of(sources: Sequence[Source]) -> list[str]:
    """The formats met, sorted."""
    return sorted({source.format for source in sources})


def read_training_questions(sources: Sequence[Source], ledger: Ledger) -> list[TrainingQuestion]:
    """All accepted questions, in the files' order."""
    records = (record for source in sources for record in read_training_source(STORAGE, source))
    return [question for record in records if (question := ledger.accepted(record)) is not None]
