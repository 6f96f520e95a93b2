"""What an index is put together from: the entries that each step of `index` commits as its rows.

    shards ─▶ training ─▶ codes ─▶ price ─▶ the index's manifest
    gone ─▶ the manifest of an index that loses passages

A step's data set lies in the index's work folder and holds JSON, one entry a unit; the files that
the entries tell of lie in the index's folder already. An exact index needs the shards only.
"""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines.dataset.manifest import read_manifest
from pipelines.dataset.reader import Part, prove_part
from pipelines.filesystems import STORAGE
from rag_core.mips.checksums import FileChecksum
from rag_core.mips.codes import TRAINED_FILE
from rag_core.mips.factory import EXACT
from rag_core.mips.index import MipsIndex
from rag_core.mips.shard import ShardInfo
from rag_core.storage import join
from rag_core.tables import read_batches

ENTRIES_SCHEMA = pa.schema([pa.field("entry", pa.string(), nullable=False)])


def entry_batch(entry: dict[str, Any]) -> pa.RecordBatch:
    """An entry as a step's row."""
    return pa.RecordBatch.from_pylist([{"entry": json.dumps(entry, sort_keys=True)}], schema=ENTRIES_SCHEMA)


@dataclass(frozen=True)
class IndexBuild:
    """An index while it is made, from what its steps have committed. Picklable: it travels to workers.

    Attributes:
      folder: the index's.
      work: folder of the steps' data sets.
      factory: as asked for; `auto` is settled by the training step.
      encoder: what the embeddings' manifest records of the passage encoder.
      growth: which addition to an index that is there, or deletion from it, this is; 0: it is new.
    """

    folder: str
    work: str
    factory: str
    encoder: dict[str, Any] | None
    growth: int = 0

    @property
    def base(self) -> dict[str, Any] | None:
        """The `index` object of the index that grows: its manifest stays until the new one replaces it."""
        manifest = read_manifest(STORAGE, self.folder) if self.growth else None
        return manifest.details["index"] if manifest else None

    def step(self, name: str) -> str:
        """Folder of a step's data set."""
        return join(self.work, name)

    def entries(self, name: str) -> list[dict[str, Any]]:
        """What a step has committed; nothing where this index has no such step.

        Raises:
          UsageError: it was changed or damaged since.
        """
        manifest = read_manifest(STORAGE, self.step(name))
        listed = []
        for written in manifest.parts if manifest else []:
            part = Part(join(self.step(name), written.name), written.rows, written.sha256)
            prove_part(STORAGE, part)
            for batch in read_batches(STORAGE, part.path, ENTRIES_SCHEMA):
                listed += [json.loads(entry) for entry in batch.column(0).to_pylist()]
        return listed

    def new_shards(self) -> list[ShardInfo]:
        """The shards of this build, without codes."""
        return [ShardInfo.from_json(entry) for entry in self.entries("shards")]

    def training(self) -> dict[str, Any]:
        """`factory` and `trained`, and the table of choices where there was one."""
        base = self.base
        if base is not None:
            return {name: base[name] for name in ("factory", "trained", "choice") if name in base}
        settled: dict[str, Any] = {"factory": self.factory}
        for entry in self.entries("training"):
            settled |= entry["training"]
        return settled

    @property
    def trains(self) -> bool:
        """Whether the index has codes, once the training step is done."""
        return self.training()["factory"] != EXACT

    def description(self) -> dict[str, Any]:
        """The manifest's `index` object, as far as the steps have come."""
        filled = {entry["name"]: entry for entry in self.entries("codes")}
        new = [
            shard.with_codes(
                FileChecksum.from_json(filled[shard.name]["codes"], shard.name),
                filled[shard.name]["trained_sha256"],
            )
            if shard.name in filled
            else shard
            for shard in self.new_shards()
        ]
        base = self.base or {"shards": []}
        shards = [*base["shards"], *(shard.to_json() for shard in new)]
        return {
            **base,
            **self.training(),
            "metric": "inner_product",
            "dimension": shards[0]["dimension"],
            "vector_dtype": shards[0]["vector_dtype"],
            "rows": sum(shard["rows"] for shard in shards),
            "shards": shards,
            "encoder": self.encoder,
            **(self.entries("price") or [{}])[0],
            **(self.entries("gone") or [{}])[0],
        }

    def open_exact(self) -> MipsIndex:
        """The index by its stored vectors, once the shards are there."""
        return MipsIndex.open(STORAGE, self.folder, self.description() | {"factory": EXACT})

    def files(self) -> list[tuple[str, int, FileChecksum]]:
        """Every file of the index with its rows and checksum."""
        description = self.description()
        listed = [
            (name, shard["rows"], FileChecksum.from_json(checksum, name))
            for shard in description["shards"]
            for name, checksum in sorted(shard["files"].items())
        ]
        if description.get("trained"):
            listed.append((TRAINED_FILE, 0, FileChecksum.from_json(description["trained"], TRAINED_FILE)))
        gone = description.get("gone")
        if gone:
            listed.append((gone["name"], 0, FileChecksum.from_json(gone, gone["name"])))
        return listed
