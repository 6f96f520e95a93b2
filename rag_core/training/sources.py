"""Which files hold training questions, and in which format."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from rag_core.corpus.detect import Head, is_parquet, is_squad
from rag_core.corpus.plan import plan_files
from rag_core.corpus.source import Source
from rag_core.records import LeftOut, Reject
from rag_core.storage import Storage
from rag_core.tables import read_batches
from rag_core.training.examples import TrainingQuestion, mine_hard_negatives, read_dpr_training
from rag_core.training.squad import read_squad_training
from schemas import TABLES

TRAINING_FORMATS = ("dpr_training", "squad", "retrievals")

_DPR_TRAINING = re.compile(r'^\s*\[.*"positive_ctxs"\s*:', re.DOTALL)


def plan_training_sources(
    storage: Storage, patterns: Sequence[str], wanted_format: str, option: str
) -> list[Source]:
    """The files that hold the questions, in the order in which they are read.

    Args:
      patterns: paths, globs, folders.
      wanted_format: one of `TRAINING_FORMATS`, or `auto` to tell each file's format by its content.
      option: the format's, for messages.

    Raises:
      UsageError: nothing matches; a file is empty; `auto` fits nothing; no such format.
    """
    return plan_files(storage, patterns, wanted_format, TRAINING_FORMATS, _TESTS, option)


def read_training_source(storage: Storage, source: Source) -> Iterator[TrainingQuestion | LeftOut | Reject]:
    """The questions of a file, in order.

    Raises:
      UsageError: a Parquet file is damaged, or its columns are not those of retrievals.
    """
    return _READERS[source.format](storage, source)


def _read_retrievals(storage: Storage, source: Source) -> Iterator[TrainingQuestion | LeftOut | Reject]:
    position = 0
    for batch in read_batches(storage, source.path, TABLES["retrievals"]):
        for row in batch.to_pylist():
            yield mine_hard_negatives(row, position, most=max(1, len(row["passages"])))
            position += 1


def _is_dpr_training(head: Head) -> bool:
    return bool(_DPR_TRAINING.search(head.text))


_TESTS: Mapping[str, Callable[[Head], bool]] = {
    "retrievals": is_parquet,
    "squad": is_squad,
    "dpr_training": _is_dpr_training,
}
_READERS: Mapping[str, Callable[[Storage, Source], Iterator[TrainingQuestion | LeftOut | Reject]]] = {
    "dpr_training": read_dpr_training,
    "squad": read_squad_training,
    "retrievals": _read_retrievals,
}
