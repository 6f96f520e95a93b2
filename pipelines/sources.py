"""Raw input files: what an input option names, and hashes of content and of the names ids are made from."""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pipelines.dataset.manifest import Input, check_parts_present, read_manifest
from pipelines.dataset.raw_input import raw_input
from rag_core.errors import UsageError
from rag_core.storage import Storage, join

_READERS = 4  # hashing releases the interpreter lock


def input_files(storage: Storage, patterns: Sequence[str]) -> list[str]:
    """The patterns, but a finished data set of ours is its parts: its manifest and rejects are no input.

    Raises:
      UsageError: the data set is damaged.
    """
    files = []
    for pattern in patterns:
        manifest = read_manifest(storage, pattern) if storage.is_folder(pattern) else None
        if manifest is None:
            files.append(pattern)
        else:
            check_parts_present(storage, pattern, manifest)
            files += [join(pattern, part.name) for part in manifest.parts]
    return files


def raw_inputs(storage: Storage, paths: Sequence[str]) -> list[Input]:
    """One input a path, in order and each once.

    A file's name counts besides its content, since records without an id of their own are called
    after it. A folder (a saved Hugging Face data set) counts with every file in it. A name that is
    no path (a data set on the hub) counts as the name.

    Raises:
      UsageError: a file's name is not UTF-8, so that no manifest could tell it.
    """
    unique = list(dict.fromkeys(paths))
    for path in unique:
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{path!r}: its name is not UTF-8; rename it") from error
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(functools.partial(raw_input, storage), unique))
