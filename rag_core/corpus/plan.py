"""From the patterns that a user names to the sources that are read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from zipfile import BadZipFile

import pyarrow.parquet as pq

from rag_core.corpus.detect import CORPUS_TESTS, Head, detect_format, read_head
from rag_core.corpus.files import is_zip, zip_members
from rag_core.corpus.hf_dataset import is_dataset_folder
from rag_core.corpus.multistream import index_path, split_dump
from rag_core.corpus.parquet import PARQUET_ERRORS
from rag_core.corpus.plain_export import split_export
from rag_core.corpus.source import CORPUS_FORMATS, Source
from rag_core.errors import UsageError, reason_of
from rag_core.storage import Storage


def plan_sources(storage: Storage, patterns: Sequence[str], input_format: str) -> list[Source]:
    """The sources that hold the corpus, in the order in which their records are numbered and read.

    Patterns are taken in the order given, the files of each sorted; a file named twice is taken once. A
    folder stands for the files below it. A zip archive becomes a source for each file in it, a
    multistream dump beside its index one for some 50 streams each, a large plain export one for some
    megabytes of pages each.

    Args:
      storage: where the files are.
      patterns: paths, globs, folders; with `hf_dataset` also names of datasets.
      input_format: one of `CORPUS_FORMATS`, or `auto` to tell each file's format by its content.

    Raises:
      UsageError: nothing matches; a file is empty; `auto` fits nothing; a Parquet file has no `text`.
    """
    sources = plan_files(storage, patterns, input_format, CORPUS_FORMATS, CORPUS_TESTS, "--input_format")
    planned: list[Source] = []
    for source in sources:
        if source.format == "parquet":
            check_columns(storage, source, [("text",)])
        planned.extend(_split(storage, source) if source.format == "wikipedia_xml" else [source])
    return planned


def _split(storage: Storage, source: Source) -> list[Source]:
    index = index_path(storage, source.path)
    return split_dump(storage, source.path, index) if index else split_export(storage, source)


def plan_files(
    storage: Storage,
    patterns: Sequence[str],
    wanted_format: str,
    formats: Sequence[str],
    tests: Mapping[str, Callable[[Head], bool]],
    option: str,
) -> list[Source]:
    """One source for each file that the patterns name, its format told by `tests` for `auto`.

    Raises:
      UsageError: nothing matches; a file is empty; `auto` fits nothing; no such format.
    """
    if wanted_format not in ("auto", *formats):
        raise UsageError(f"{option} {wanted_format}: expected auto, {', '.join(formats)}")
    sources: dict[Source, None] = {}  # an ordered set
    for pattern in patterns:
        for source in _expand(storage, pattern, wanted_format):
            if source.format == "auto":
                source = replace(source, format=detect_format(storage, source, tests, option))
            elif source.format != "hf_dataset":
                read_head(storage, source)  # refuses an empty file
            sources[source] = None
    if not sources:
        raise UsageError(f"no input files: expected paths or globs, got {list(patterns)}")
    return list(sources)


def _expand(storage: Storage, pattern: str, wanted_format: str) -> list[Source]:
    if storage.is_folder(pattern):
        if is_dataset_folder(storage, pattern):
            return [Source(pattern, "hf_dataset")]
        found = [path for path in storage.list_files(pattern) if not _is_hidden(path[len(pattern) :])]
    elif wanted_format == "hf_dataset":
        return [Source(pattern, "hf_dataset")]
    else:
        found = storage.glob(pattern)
    if not found:
        raise UsageError(
            f"{pattern}: no file matches; expected a path, a glob, a folder"
            + ("" if wanted_format != "auto" else ", or a dataset's name with the format hf_dataset")
        )
    indexes = {index_path(storage, path) for path in found}
    return [
        source
        for path in found
        if path not in indexes
        for source in _open_archive(storage, path, wanted_format)
    ]


def _open_archive(storage: Storage, path: str, wanted_format: str) -> list[Source]:
    if not is_zip(storage, path):
        return [Source(path, wanted_format)]
    try:
        members = zip_members(storage, path)
    except BadZipFile as error:
        raise UsageError(f"{path}: cannot be read as a zip archive ({error}); fetch it again") from error
    if not members:
        raise UsageError(f"{path}: the archive holds no files with data")
    return [Source(path, wanted_format, member=member) for member in members]


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def check_columns(storage: Storage, source: Source, wanted: Sequence[Sequence[str]]) -> None:
    """Checks that a Parquet file has at least one column of each group in `wanted`.

    Raises:
      UsageError: it has not, or it is no Parquet file.
    """
    with storage.open(source.path) as file:
        try:
            names = pq.read_schema(file).names
        except PARQUET_ERRORS as error:
            raise UsageError(
                f"{source.path}: cannot be read as Parquet ({reason_of(error)}); write it again"
            ) from error
    for group in wanted:
        if not any(name in names for name in group):
            raise UsageError(
                f"{source.path}: expected a column {' or '.join(group)}, found {', '.join(names)}"
            )
