"""Proves a MIPS index: its shards, their offset tables, the ids and the rows that are gone."""

import contextlib
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from pipelines.dataset.manifest import MANIFEST, Manifest
from pipelines.proofs.findings import Check, Report
from pipelines.proofs.unique_ids import UniqueIds
from rag_core.errors import UsageError
from rag_core.mips.checksums import FileChecksum
from rag_core.mips.codes import TRAINED_FILE, ShardCodes, read_faiss
from rag_core.mips.deletions import read_gone, rows_within
from rag_core.mips.index import MipsIndex
from rag_core.mips.shard import PASSAGES_PER_BATCH, ShardInfo
from rag_core.mips.vectors import ShardVectors
from rag_core.storage import Storage, join
from schemas import TABLES, conform, readable_schema

_ROWS_AT_ONCE = 16_384


def prove_index(
    storage: Storage, folder: str, manifest: Manifest, whole: set[str], report: Report
) -> int | None:
    """Proves what an index's files hold.

    Args:
      whole: names of the files whose SHA-256 has been proved; no other is given to FAISS.

    Returns:
      The rows that its last build or growth wrote; None where that cannot be told.
    """
    where = join(folder, MANIFEST)
    index: Any = manifest.details.get("index")
    shards: list[ShardInfo] = []
    gone: np.ndarray | None = None
    with report.check("index", where) as check:
        if not isinstance(index, dict):
            check.fail(f"{where}: describes no index; rebuild the index")
            return None
        shards = [ShardInfo.from_json(entry, where) for entry in index["shards"]]
        for sentence in _listing_differences(index, shards, manifest):
            check.fail(f"{where}: {sentence}; rebuild the index")
        _prove_encoder(where, index, check)
        gone = read_gone(storage, folder, index)
        if "gone" in index and index["gone"].get("rows") != len(gone):
            check.fail(
                f"{where}: counts {index['gone'].get('rows')!r} rows that are gone, {index['gone']['name']} names "
                f"{len(gone):,}; rebuild the index"
            )
        MipsIndex.open(storage, folder, index)
        check.note = f"{index['factory']}, {index['rows']:,} rows in {len(shards):,} shards, {len(gone):,} of them gone"
    if not shards:
        return None
    vectors, passages, codes = Check("vectors"), Check("passages"), Check("codes")
    vectors.note = f"{shards[0].vector_dtype} of {shards[0].dimension}, finite, within the norms stated"
    passages.note = "as many as vectors, offset tables in order, no nulls"
    with UniqueIds() as unique:
        first_row = 0
        for shard in shards:
            with vectors.guard(join(folder, shard.vectors_file)):
                _prove_vectors(storage, folder, shard, vectors)
            with passages.guard(join(folder, shard.passages_file)):
                _prove_passages(storage, folder, shard, first_row, gone, unique, passages)
            if shard.trained_sha256 is not None:
                _prove_codes(storage, folder, shard, whole, codes)
            first_row += shard.rows
        report.end(vectors, passages)
        if index.get("trained"):
            _prove_training(storage, folder, index, whole, codes)
            codes.note = "each shard's FAISS index has the rows and the dimension of its vectors"
            report.end(codes)
        _prove_ids(storage, folder, shards, unique, report)
    return _rows_written(manifest, shards)


def _rows_written(manifest: Manifest, shards: list[ShardInfo]) -> int | None:
    """Of a new index all rows; of one that has grown those of the last shards, which growth does not tell apart."""
    if not manifest.settings.get("growth"):
        return sum(shard.rows for shard in shards)
    added = np.cumsum([0, *(shard.rows for shard in reversed(shards))]).tolist()
    return manifest.counts.rows_written if manifest.counts.rows_written in added else added[-1]


def _listing_differences(index: dict[str, Any], shards: list[ShardInfo], manifest: Manifest) -> Iterator[str]:
    """Where the description of the index and the manifest's list of parts tell different things."""
    described = {name: (shard.rows, checksum) for shard in shards for name, checksum in shard.files.items()}
    if index.get("trained"):
        described[TRAINED_FILE] = (0, FileChecksum.from_json(index["trained"], TRAINED_FILE))
    if index.get("gone"):
        described[index["gone"]["name"]] = (0, FileChecksum.from_json(index["gone"], "gone"))
    listed = {part.name: (part.rows, FileChecksum(part.bytes, part.sha256)) for part in manifest.parts}
    for name in sorted({*described, *listed}):
        if described.get(name) != listed.get(name):
            yield f"{name} is not the same file among its parts and in its description of the index"


def _prove_encoder(where: str, index: dict[str, Any], check: Check) -> None:
    encoder = index.get("encoder")
    if encoder and encoder.get("dimension", index["dimension"]) != index["dimension"]:
        check.fail(
            f"{where}: its encoder gives {encoder['dimension']} dimensions, its vectors have {index['dimension']}; "
            "rebuild the index"
        )


def _prove_vectors(storage: Storage, folder: str, shard: ShardInfo, check: Check) -> None:
    """Shape and type are compared when the file is mapped; every vector is finite and no longer than stated."""
    path = join(folder, shard.vectors_file)
    for first, block in ShardVectors(storage, folder, shard).blocks(_ROWS_AT_ONCE):
        finite = np.isfinite(block).all(axis=1)
        for row in np.flatnonzero(~finite):
            check.fail(f"{path}: the vector of row {first + row} holds NaN or infinity; rebuild the index")
        norms = np.sqrt(np.square(block[finite], dtype=np.float64).sum(axis=1))
        if norms.max(initial=0.0) > shard.max_norm:
            check.fail(
                f"{path}: a vector from row {first} on has the norm {norms.max():.6g}, expected at most "
                f"{shard.max_norm:.6g} from {MANIFEST}: searches would not be exact; rebuild the index"
            )


def _prove_passages(
    storage: Storage,
    folder: str,
    shard: ShardInfo,
    first_row: int,
    gone: np.ndarray | None,
    unique: UniqueIds,
    check: Check,
) -> None:
    """Every batch but the last has the same number of rows, so that a row is found by a division."""
    path = join(folder, shard.passages_file)
    rows = 0
    with _open_passages(storage, path) as reader:
        schema = readable_schema(reader.schema, TABLES["passages"], path)
        batches = reader.num_record_batches
        for number in range(batches):
            batch = reader.get_batch(number)
            if batch.num_rows != PASSAGES_PER_BATCH and number < batches - 1:
                check.fail(
                    f"{path}: batch {number} of its offset table has {batch.num_rows} rows, expected "
                    f"{PASSAGES_PER_BATCH}: texts would be those of other passages; rebuild the index"
                )
            ids = conform(batch, schema, path).column("passage_id")
            numbers = np.arange(first_row + rows, first_row + rows + batch.num_rows)
            if gone is not None and len(gone) and batch.num_rows:
                live = np.ones(batch.num_rows, dtype=bool)
                live[rows_within(gone, int(numbers[0]), batch.num_rows)] = False
                ids, numbers = ids.filter(pa.array(live)), numbers[live]
            unique.add(ids.to_pylist(), numbers)
            rows += batch.num_rows
    if rows != shard.rows:
        check.fail(f"{path}: holds {rows:,} passages for {shard.rows:,} vectors; rebuild the index")


@contextlib.contextmanager
def _open_passages(storage: Storage, path: str) -> Iterator[pa.ipc.RecordBatchFileReader]:
    with storage.held_locally(path) as local_path:
        try:
            reader = pa.ipc.open_file(pa.memory_map(local_path))
        except pa.ArrowException as error:
            raise UsageError(
                f"{path}: its offset table cannot be read ({error}); rebuild the index"
            ) from error
        with reader:
            yield reader


def _prove_codes(storage: Storage, folder: str, shard: ShardInfo, whole: set[str], check: Check) -> None:
    path = join(folder, shard.codes_file)
    if shard.codes_file not in whole:
        check.skip(f"{path}: is damaged or missing, and is not given to FAISS")
        return
    with check.guard(path):
        ShardCodes(storage, folder, shard, 0).load(keep=False)


def _prove_training(
    storage: Storage, folder: str, index: dict[str, Any], whole: set[str], check: Check
) -> None:
    path = join(folder, TRAINED_FILE)
    if TRAINED_FILE not in whole:
        check.skip(f"{path}: is damaged or missing, and is not given to FAISS")
        return
    with check.guard(path):
        trained: faiss.Index = read_faiss(storage, path, FileChecksum.from_json(index["trained"], path))
        if not trained.is_trained or trained.d != index["dimension"] or trained.ntotal:
            check.fail(
                f"{path}: expected an empty index trained for {index['dimension']} dimensions, got {trained.ntotal} "
                f"vectors of {trained.d}; rebuild the index"
            )


def _prove_ids(
    storage: Storage, folder: str, shards: list[ShardInfo], unique: UniqueIds, report: Report
) -> None:
    """A passage that is gone may have been added again; of the others each id stands once."""
    with report.check("ids", folder) as check:
        check.note = f"{unique.count:,} times passage_id that is not gone, each once"
        for first, again in unique.repeated():
            path, row = _shard_row(folder, shards, again)
            with _open_passages(storage, path) as reader:
                batch = reader.get_batch(row // PASSAGES_PER_BATCH)
                passage_id = batch.column("passage_id")[row % PASSAGES_PER_BATCH].as_py()
            check.fail(
                f"{path}: row {row}: passage_id {passage_id!r} stands in row {first} of the index already, expected "
                "each once; rebuild the index"
            )


def _shard_row(folder: str, shards: list[ShardInfo], row: int) -> tuple[str, int]:
    for shard in shards:
        if row < shard.rows:
            return join(folder, shard.passages_file), row
        row -= shard.rows
    raise IndexError(f"row {row} behind the last shard")
