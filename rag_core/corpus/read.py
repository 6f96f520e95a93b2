"""Reads one source: the reader of its format, and what becomes of a file that ends early."""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeVar

from rag_core.corpus.csv import read_csv
from rag_core.corpus.dpr_tsv import read_dpr_tsv
from rag_core.corpus.fever_wiki import read_fever_wiki
from rag_core.corpus.files import DamagedFileError
from rag_core.corpus.hf_dataset import read_hf_dataset
from rag_core.corpus.jsonl import read_jsonl
from rag_core.corpus.kilt import read_kilt
from rag_core.corpus.parquet import read_parquet
from rag_core.corpus.source import Source
from rag_core.corpus.squad import read_squad
from rag_core.corpus.text import read_text
from rag_core.corpus.wikiextractor import read_wikiextractor
from rag_core.corpus.wikipedia_xml import read_wikipedia_xml
from rag_core.records import Document, LeftOut, Passage, Reject, RejectReason
from rag_core.storage import Storage


class _Record(Protocol):
    @property
    def position(self) -> int: ...


R = TypeVar("R", bound=_Record)

_READERS: Mapping[str, Callable[[Storage, Source], Iterator[Document | Passage | LeftOut | Reject]]] = {
    "wikipedia_xml": read_wikipedia_xml,
    "wikiextractor": read_wikiextractor,
    "dpr_tsv": read_dpr_tsv,
    "kilt": read_kilt,
    "squad": read_squad,
    "fever_wiki": read_fever_wiki,
    "jsonl": read_jsonl,
    "csv": read_csv,
    "text": read_text,
    "parquet": read_parquet,
    "hf_dataset": read_hf_dataset,
}


def read_source(storage: Storage, source: Source) -> Iterator[Document | Passage | LeftOut | Reject]:
    """The records of a source, in order; memory is bounded by one record.

    Bad data raises nothing: a bad record becomes a `Reject`, and so does the point from which a file is
    cut off or damaged, after all that came before it.
    """
    return until_damage(source, _READERS[source.format](storage, source))


def until_damage(source: Source, records: Iterator[R]) -> Iterator[R | Reject]:
    """The records, and a last `Reject` (`truncated_file`) where reading them meets a damaged file."""
    position = source.first_record
    try:
        for record in records:
            yield record
            position = record.position + 1
    except DamagedFileError as error:
        message = f"{source.name}, after {position} records: {error}"
        yield Reject(source.name, position, RejectReason.TRUNCATED_FILE, message)
