"""Reads one question file: the reader of its format."""

from collections.abc import Callable, Iterator, Mapping

from rag_core.corpus.read import until_damage
from rag_core.questions.csv import read_csv
from rag_core.questions.curatedtrec import read_curatedtrec
from rag_core.questions.dpr_qas import read_dpr_qas
from rag_core.questions.fever import read_fever
from rag_core.questions.hf_dataset import read_hf_dataset
from rag_core.questions.jsonl import read_jsonl
from rag_core.questions.kilt import read_kilt
from rag_core.questions.parquet import read_parquet
from rag_core.questions.source import QuestionSource
from rag_core.questions.squad import read_squad
from rag_core.records import LeftOut, Question, Reject
from rag_core.storage import Storage

_READERS: Mapping[str, Callable[[Storage, QuestionSource], Iterator[Question | LeftOut | Reject]]] = {
    "jsonl": read_jsonl,
    "dpr_qas": read_dpr_qas,
    "curatedtrec": read_curatedtrec,
    "kilt": read_kilt,
    "squad": read_squad,
    "fever": read_fever,
    "csv": read_csv,
    "parquet": read_parquet,
    "hf_dataset": read_hf_dataset,
}


def read_question_source(storage: Storage, source: QuestionSource) -> Iterator[Question | LeftOut | Reject]:
    """The questions of a source, in order.

    Bad data raises nothing: a bad record becomes a `Reject`, and so does the point from which a file is
    cut off or damaged, after all that came before it.
    """
    return until_damage(source, _READERS[source.format](storage, source))
