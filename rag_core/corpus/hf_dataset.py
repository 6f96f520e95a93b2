"""Hugging Face datasets: a folder that `save_to_disk` wrote, or the name of a dataset on the hub.

A name is `NAME`, `NAME:SPLIT` or `NAME:CONFIG:SPLIT` (split `train` where none is given), streamed. A
folder of several splits is not read as one: name the folder of the split.
"""

from collections.abc import Iterator, Sequence

from rag_core.corpus.parquet import batch_rows
from rag_core.corpus.rows import DOCUMENT_FIELDS, BadRecord, Row, convert_rows, to_document
from rag_core.corpus.source import Source
from rag_core.errors import UsageError
from rag_core.records import Document, LeftOut, Passage, Reject
from rag_core.storage import Storage, join

_BATCH_ROWS = 1_000


def read_hf_dataset(storage: Storage, source: Source) -> Iterator[Document | Passage | LeftOut | Reject]:
    """The documents, or passages, of a dataset."""
    return convert_rows(source, read_dataset_rows(storage, source, DOCUMENT_FIELDS), to_document)


def is_dataset_folder(storage: Storage, path: str) -> bool:
    """Whether `save_to_disk` wrote this folder.

    Raises:
      UsageError: it wrote it for several splits.
    """
    if storage.exists(join(path, "dataset_dict.json")):
        raise UsageError(
            f"{path}: holds several splits; name the folder of one of them, such as {join(path, 'train')}"
        )
    return storage.exists(join(path, "state.json")) and storage.exists(join(path, "dataset_info.json"))


def read_dataset_rows(storage: Storage, source: Source, wanted: Sequence[str]) -> Iterator[Row | BadRecord]:
    """The rows of a dataset, of the columns in `wanted` that it has.

    Raises:
      UsageError: there is no such dataset.
    """
    import datasets  # imported late: it takes a second, and few runs need it

    if storage.is_folder(source.path):
        dataset = datasets.load_from_disk(source.path)
    else:
        name, config, split = _parse_name(source.path)
        try:
            dataset = datasets.load_dataset(name, config, split=split, streaming=True)
        except Exception as error:
            raise UsageError(
                f"{source.path}: neither a folder that save_to_disk wrote nor a dataset that the hub gives "
                f"({type(error).__name__}: {error})"
            ) from error
    if dataset.column_names is not None:
        dataset = dataset.select_columns([name for name in dataset.column_names if name in wanted])
    for table in dataset.with_format("arrow").iter(_BATCH_ROWS):
        for batch in table.to_batches():
            yield from batch_rows(batch)


def _parse_name(name: str) -> tuple[str, str | None, str]:
    parts = name.split(":")
    if len(parts) > 3 or not all(parts):
        raise UsageError(f"{name}: expected a dataset as NAME, NAME:SPLIT or NAME:CONFIG:SPLIT")
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    return parts[0], None, parts[1] if len(parts) == 2 else "train"
