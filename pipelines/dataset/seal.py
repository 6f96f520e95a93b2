"""A file's SHA-256 in a small file of its own, so that a resume finds damage anywhere in it.

The checksums within Parquet are of its pages: its footer, with schema, row counts and our own word, has none.
"""

from rag_core.errors import UsageError
from rag_core.storage import Storage, file_sha256
from rag_core.tables import TableFile, inspect_table


def write_seal(storage: Storage, seal: str, sha256: str) -> None:
    """Seals a file that is committed."""
    with storage.create(seal) as file:
        file.write(sha256.encode())


def proved_table(storage: Storage, path: str, seal: str) -> TableFile | None:
    """What a Parquet file tells of itself, once it is proved; None where it is missing or damaged.

    A file without a seal, of a run that was killed between the two, is proved page by page.
    """
    if not storage.exists(path):
        return None
    sealed = storage.exists(seal)
    if sealed:
        with storage.open(seal) as file:
            if file.read() != file_sha256(storage, path).encode():
                return None
    try:
        return inspect_table(storage, path, prove=not sealed)
    except UsageError:
        return None
