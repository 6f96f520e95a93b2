"""Options of a stage that searches an index which may lie on an object store."""

from pydantic import field_validator

from pipelines.filesystems import ShardCache
from pipelines.options import Settings, option
from rag_core.storage import is_local


class ShardCacheSettings(Settings):
    """Where workers keep copies of the index, and how many bytes of them."""

    shard_cache_dir: str | None = option(
        "folder on a worker's own disk for copies of the files of an index on an object store; shared by the "
        "machine's workers; default: beside the temporary files",
        None,
        path="data",
    )
    shard_cache_bytes: int | None = option(
        "the most bytes of these copies; the least recently used go first; default: nine tenths of what the "
        "disk has for them",
        None,
        changes_result=False,
        ge=1,
    )

    @field_validator("shard_cache_dir")
    @classmethod
    def _is_on_a_disk(cls, folder: str | None) -> str | None:
        if folder is not None and not is_local(folder):
            raise ValueError(
                "expected a folder on the worker's own disk, as copies are memory-mapped from there"
            )
        return folder

    def shard_cache(self) -> ShardCache:
        """What the options say."""
        return ShardCache(self.shard_cache_dir, self.shard_cache_bytes)
