"""Proves that embeddings and an index stand in the order of what they were made from, where that can be found."""

from collections.abc import Iterator

import numpy as np

from pipelines.dataset.manifest import Input, Manifest
from pipelines.dataset.reader import Dataset, open_dataset
from pipelines.proofs.findings import Check, Report
from pipelines.proofs.lineage import Lineage
from pipelines.transforms.reuse import content_hashes
from pipelines.transforms.vectors import vector_matrix
from rag_core.errors import UsageError
from rag_core.mips.index import MipsIndex
from rag_core.storage import Storage

_REMEDY = "make it again with --overwrite"


def prove_embeddings_order(
    storage: Storage, folder: str, manifest: Manifest, lineage: Lineage, report: Report
) -> None:
    """Proves that the vectors are those of the passages, row by row, the rejected ones left away.

    Where a row tells the hash of what was encoded, that is the passage's title and text.
    """
    with report.check("order", folder) as check:
        passages = _find(storage, folder, manifest.inputs[0], "passages", lineage, check)
        if passages is None:
            return
        missing = manifest.counts.rejected.total()
        _compare_passages(storage, open_dataset(storage, folder, "embeddings"), passages, missing, check)
        check.note = f"rows stand as in {passages.path}, and were made from its texts"


def prove_index_order(
    storage: Storage, folder: str, manifest: Manifest, lineage: Lineage, report: Report
) -> None:
    """Proves that a new index has the ids and the vectors of its embeddings, row by row."""
    with report.check("order", folder) as check:
        if manifest.settings.get("growth"):
            check.skip(
                f"{folder}: has grown; rows stand in the order of additions that its manifest does not tell"
            )
            return
        embeddings = _find(storage, folder, manifest.inputs[0], "embeddings", lineage, check)
        if embeddings is None:
            return
        index = MipsIndex.open(storage, folder, manifest.details["index"])
        first = 0
        for batch in embeddings.read(storage, columns=("passage_id", "vector")):
            rows = np.arange(first, min(first + batch.num_rows, index.rows))
            ids = batch.column("passage_id").to_pylist()
            for row, here, there in zip(rows, index.passage_ids(rows), ids, strict=False):
                if here != there:
                    check.fail(
                        f"{folder}: row {row} is passage {here!r}, {embeddings.path} has {there!r} there; {_REMEDY}"
                    )
            vectors = vector_matrix(batch.column("vector"), embeddings.path)[: len(rows)]
            same = (index.vectors(rows) == vectors.astype(np.float32)).all(axis=1)
            for place in np.flatnonzero(~same):
                check.fail(
                    f"{folder}: row {rows[place]} has another vector than {embeddings.path} has for "
                    f"{ids[place]!r}; {_REMEDY}"
                )
            first += batch.num_rows
        if first != index.rows:
            check.fail(f"{folder}: has {index.rows:,} rows, {embeddings.path} {first:,}; {_REMEDY}")
        check.note = f"ids and vectors stand as in {embeddings.path}"


def _find(
    storage: Storage, folder: str, item: Input, table: str, lineage: Lineage, check: Check
) -> Dataset | None:
    """The data set of an input, where it still is what it was."""
    found = lineage.find_dataset(folder, item)
    path = item.path if found is None else found[0]
    try:
        dataset = open_dataset(storage, path, table)
    except UsageError as error:
        check.skip(f"{folder}: its order, as the {table} it was made from cannot be opened: {error}")
        return None
    if dataset.fingerprint != item.fingerprint:
        check.skip(f"{folder}: its order, as {path} is not what it was made from any more")
        return None
    return dataset


def _compare_passages(
    storage: Storage, embeddings: Dataset, passages: Dataset, missing: int, check: Check
) -> None:
    """Walks over both; passages may be passed over, as many as were rejected."""
    walk = _texts(storage, passages)
    passed = 0
    for row, (passage_id, content_hash) in enumerate(_hashes(storage, embeddings)):
        here: tuple[str, str, str] | None = None
        for here in walk:
            if here[0] == passage_id:
                break
            passed += 1
        else:
            here = None
        if here is None:
            check.fail(
                f"{embeddings.path}: row {row} is passage {passage_id!r}, which {passages.path} does not have there or "
                f"later; {_REMEDY}"
            )
            return
        if content_hash is not None and content_hashes([here[1]], [here[2]]) != [content_hash]:
            check.fail(
                f"{embeddings.path}: row {row} was encoded from another title or text than {passages.path} has for "
                f"{passage_id!r}; {_REMEDY}"
            )
    passed += sum(1 for _ in walk)
    if passed != missing:
        check.fail(
            f"{embeddings.path}: {passed:,} passages of {passages.path} have no vector, expected {missing:,}, those "
            f"that were rejected; {_REMEDY}"
        )


def _hashes(storage: Storage, embeddings: Dataset) -> Iterator[tuple[str, bytes | None]]:
    for batch in embeddings.read(storage, columns=("passage_id", "content_hash")):
        yield from zip(
            batch.column("passage_id").to_pylist(), batch.column("content_hash").to_pylist(), strict=True
        )


def _texts(storage: Storage, passages: Dataset) -> Iterator[tuple[str, str, str]]:
    names = ("passage_id", "title", "text")
    for batch in passages.read(storage, columns=names):
        yield from zip(*(batch.column(name).to_pylist() for name in names), strict=True)
