"""Takes back what a run claimed, where it ends by a mistake of the user's before anything was done."""

import contextlib
from collections.abc import Iterator

from pipelines.dataset.manifest import MANIFEST
from pipelines.dataset.target import LOCK, WORK
from rag_core.errors import RagBeamError, UsageError
from rag_core.storage import Storage, file_name, join


@contextlib.contextmanager
def withdrawn_on_mistake(storage: Storage, folder: str) -> Iterator[None]:
    """Within it a folder is claimed and worked on, under its lock.

    Without this the command would, once the mistake is mended, find a folder that was begun with other
    settings, and refuse it.
    """
    try:
        yield
    except RagBeamError as error:
        if error.exit_status == UsageError.exit_status and not _holds_work(storage, folder):
            storage.remove(join(folder, WORK))
        raise


def _holds_work(storage: Storage, folder: str) -> bool:
    """Whether there is more than plans, progress and word of a failure."""
    work = join(folder, WORK, "")
    return any(
        file_name(path) != LOCK
        and not (path.startswith(work) and path.endswith(".json") and file_name(path) != MANIFEST)
        for path in storage.list_files(folder)
    )
