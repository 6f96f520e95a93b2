"""Hugging Face datasets: a folder that `save_to_disk` wrote, or the name of a dataset on the hub.

A name is `NAME`, `NAME:SPLIT` or `NAME:CONFIG:SPLIT` (split `train` where none is given), streamed. A
folder of several splits is not read as one: name the folder of the split.
"""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rag_core.corpus.files import DamagedFileError, tells_of_damage
from rag_core.corpus.parquet import batch_rows
from rag_core.corpus.rows import DOCUMENT_FIELDS, BadRecord, Row, convert_rows, to_document
from rag_core.corpus.source import Source
from rag_core.errors import UsageError, reason_of
from rag_core.records import Document, LeftOut, Passage, Reject
from rag_core.remote_folders import local_folder
from rag_core.storage import Storage, file_name, join

if TYPE_CHECKING:  # imported late: it takes a second, and few runs need it
    from datasets import Dataset, IterableDataset

_BATCH_ROWS = 1_000
_HUB_SECONDS = 10
_SERVER_ERROR = 500


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
      UsageError: there is no such dataset, or its files are damaged.
      DamagedFileError: its rows cannot be read to their end.
    """
    is_folder = storage.is_folder(source.path)
    dataset = _load_folder(storage, source.path) if is_folder else _load(source.path)
    try:
        if dataset.column_names is not None:
            dataset = dataset.select_columns([name for name in dataset.column_names if name in wanted])
        for table in dataset.with_format("arrow").iter(_BATCH_ROWS):
            for batch in table.to_batches():
                yield from batch_rows(batch)
    except Exception as error:  # whatever the library makes of damaged Arrow data
        if not is_folder or not tells_of_damage(error):
            raise
        raise DamagedFileError(f"cannot be read further as a dataset ({reason_of(error)})") from error


def _load_folder(storage: Storage, folder: str) -> "Dataset":
    import datasets

    try:
        with storage.open(join(folder, "state.json")) as file:
            names = [entry["filename"] for entry in json.load(file)["_data_files"]]
        if not all(name == file_name(name) for name in names):
            raise ValueError(f"state.json names files outside the folder: {', '.join(names)}")
        return datasets.load_from_disk(local_folder(storage, folder))
    except Exception as error:  # KeyError, TypeError, JSONDecodeError, ArrowInvalid …: by what is damaged
        raise UsageError(
            f"{folder}: cannot be read as a dataset that save_to_disk wrote "
            f"({type(error).__name__}: {reason_of(error)}); write it again"
        ) from error


def _load(source: str) -> "IterableDataset":
    import datasets

    name, config, split = _parse_name(source)
    _check_hub_answers(source, name)
    try:
        return datasets.load_dataset(name, config, split=split, streaming=True)
    except Exception as error:
        raise UsageError(
            f"{source}: neither a folder that save_to_disk wrote nor a dataset that the hub gives "
            f"({type(error).__name__}: {reason_of(error)})"
        ) from error


def _check_hub_answers(source: str, name: str) -> None:
    """Asks the hub once: where it cannot be reached, the library itself would try for half a minute.

    Raises:
      UsageError: the hub cannot be reached, or is out of order.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        HfApi().dataset_info(name, timeout=_HUB_SECONDS)
    except (HFValidationError, OfflineModeIsEnabled):
        return  # told, or found in the cache, by the library
    except Exception as error:  # its HTTP library's own, where there is no connection
        if isinstance(error, HfHubHTTPError) and error.response.status_code < _SERVER_ERROR:
            return  # told by the library: no such dataset, no permission
        raise UsageError(
            f"{source}: no such folder, and the hub cannot be reached for a dataset of this name ({reason_of(error)}); "
            "give a folder that save_to_disk wrote, or try again"
        ) from error


def _parse_name(name: str) -> tuple[str, str | None, str]:
    parts = name.split(":")
    if len(parts) > 3 or not all(parts):
        raise UsageError(f"{name}: expected a dataset as NAME, NAME:SPLIT or NAME:CONFIG:SPLIT")
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    return parts[0], None, parts[1] if len(parts) == 2 else "train"
