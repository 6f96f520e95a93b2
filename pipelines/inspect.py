"""`rag-beam inspect`: shows a data set, an index, a model, or one answer with its provenance."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.dataset.manifest import Manifest, read_manifest
from pipelines.dataset.reader import find_table, open_dataset
from pipelines.dataset.target import is_unfinished
from pipelines.exit_status import exit_status
from pipelines.filesystems import STORAGE
from pipelines.options import CommandParser, Settings, add_arguments, option, parse
from pipelines.terminal import printable
from rag_core.errors import UsageError
from rag_core.storage import join
from schemas import TABLES

_CELL_CHARACTERS = 300
_ROW_TABLES = tuple(name for name in TABLES if name != "rejects")


class InspectSettings(Settings):
    """Options of `rag-beam inspect` besides the folder."""

    rows: int = option("rows to show", 3, ge=0)
    question_id: str | None = option("show this question's row, its passages and posteriors", None)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints what a folder or a Parquet file is; returns the exit status."""
    with exit_status() as status:
        parser = CommandParser(
            prog="rag-beam inspect",
            description="Shows what a data set, index or model folder is, or one answer with its documents.\n\n"
            "example:\n  rag-beam inspect out/answers --question_id nq-17",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.add_argument("path", help="a data set, an index, a model folder or a Parquet file")
        add_arguments(parser, InspectSettings)
        arguments = sys.argv[1:] if argv is None else list(argv)
        settings, _ = parse(parser, InspectSettings, arguments)
        path = parser.parse_known_args(arguments)[0].path
        for line in describe(path, settings):
            print(printable(line))
    return status.code


def describe(path: str, settings: InspectSettings) -> Iterator[str]:
    """The lines to print.

    Raises:
      UsageError: nothing is there, it is none of ours, or the question is not in it.
    """
    if not STORAGE.exists(path):
        raise UsageError(f"{path}: no such folder or file")
    manifest = read_manifest(STORAGE, path) if STORAGE.is_folder(path) else None
    if settings.question_id is not None:
        yield from describe_question(path, settings.question_id)
    elif manifest is not None:
        yield from _describe_manifest(path, manifest)
        if manifest.table in TABLES and manifest.rows:
            yield from _first_rows(path, manifest.table, settings.rows)
    elif is_unfinished(STORAGE, path):
        yield f"{path}: an unfinished data set; run the stage that makes it again, it goes on where it ended"
    elif STORAGE.exists(join(path, "config.json")) or STORAGE.exists(join(path, "modules.json")):
        from rag_core.model_files import describe_model  # late: only models need torch, which takes seconds

        yield f"{path}: a model"
        yield from (f"  {name}: {value}" for name, value in describe_model(path).items())
    else:
        table = find_table(STORAGE, path, _ROW_TABLES)
        dataset = open_dataset(STORAGE, path, table)
        yield f"{path}: {table} made elsewhere, {dataset.rows:,} rows in {len(dataset.parts)} files"
        yield from _first_rows(path, table, settings.rows)


def describe_question(path: str, question_id: str) -> Iterator[str]:
    """One question's row, as a person reads it.

    Raises:
      UsageError: no row has this id.
    """
    table = find_table(STORAGE, path, ("answers", "labels", "retrievals"))
    for batch in open_dataset(STORAGE, path, table).read(STORAGE):
        ids = batch.column("question_id").to_pylist()
        if question_id in ids:
            yield from _QUESTION_VIEWS[table](batch.slice(ids.index(question_id), 1).to_pylist()[0])
            return
    raise UsageError(f"{path}: no row has the question_id {question_id!r}")


def _describe_manifest(path: str, manifest: Manifest) -> Iterator[str]:
    size = sum(part.bytes for part in manifest.parts)
    yield f"{path}: {manifest.table}, {len(manifest.parts)} files, {size:,} bytes, by {manifest.created_by}"
    yield f"  records: {manifest.counts.summary()}"
    for name, count in sorted(manifest.counts.extra.items()):
        yield f"  {name}: {count:,}"
    yield f"  fingerprint: {manifest.fingerprint}"
    for item in manifest.inputs:
        yield f"  made from: {item.path} ({item.fingerprint[:12]}…)"
    settings = {name: value for name, value in manifest.settings.items() if name != "growth"}
    yield from (f"  {name}: {_cell(value)}" for name, value in sorted(settings.items()))
    if manifest.table == "mips_index":
        yield from _describe_index(manifest.details["index"])
    elif manifest.table == "model":
        yield from _describe_training(manifest.details)
    else:
        yield from (f"  {name}: {_cell(value)}" for name, value in sorted(manifest.details.items()))


def _describe_index(index: dict[str, Any]) -> Iterator[str]:
    yield (
        f"  index: {index['factory']}, {index['rows']:,} vectors of {index['dimension']} {index['vector_dtype']}, "
        f"{index['metric']}"
    )
    for number, growth in enumerate(index["growth"], start=1):
        yield f"  growth {number}: {growth['kind']}"
    if "gone" in index:
        yield f"  deleted: {index['gone']['rows']:,} of them"
    if "price" in index:
        yield from _describe_price(index)
    encoder = index["encoder"]
    yield (
        f"  encoder: {encoder['model']} ({encoder['fingerprint'][:12]}…)"
        if encoder
        else "  encoder: not recorded"
    )
    for shard in index["shards"]:
        size = sum(file["bytes"] for file in shard["files"].values())
        yield f"  {shard['name']}: {shard['rows']:,} rows, {size:,} bytes"


def _describe_training(details: dict[str, Any]) -> Iterator[str]:
    """What was trained, and what its validation gave."""
    training = details["training"]
    early = ", stopped early" if training["stopped_early"] else ""
    yield (
        f"  trained: {training['steps']:,} steps in {training['seconds']:,.1f} s{early}; the weights are those of "
        f"step {training['saved_step']:,}"
    )
    for name, value in training["scores"].items():
        yield f"  validation {name}: {value:.4f} (before training {training['scores_before'][name]:.4f})"
    for item in details["files"]:
        if item["name"].endswith(".safetensors"):
            yield f"  {item['name']}: {item['bytes']:,} bytes ({item['sha256'][:12]}…)"
    others = {name: value for name, value in details.items() if name not in ("training", "files")}
    yield from (f"  {name}: {_cell(value)}" for name, value in sorted(others.items()))


def _describe_price(index: dict[str, Any]) -> Iterator[str]:
    """What an approximate index misses and costs."""
    price = index["price"]
    yield f"  effort: {', '.join(f'{name} {value}' for name, value in index['effort'].items())}"
    for item in price["recalls"]:
        yield (
            f"  recall@{item['k']}: {item['value']:.4f} [{item['ci_low']:.4f}, {item['ci_high']:.4f}] over "
            f"{item['questions']:,} questions ({price['questions']})"
        )
    yield (
        f"  bytes a vector: {price['code_bytes_per_vector']:.1f} of codes, "
        f"{price['stored_bytes_per_vector']:.0f} of the stored vector"
    )
    yield (
        f"  built in {price['build_seconds']:,.1f} s of work, a worker had at most "
        f"{price['peak_bytes'] >> 20:,} MiB"
    )


def _first_rows(path: str, table: str, rows: int) -> Iterator[str]:
    if not rows:
        return
    shown = 0
    for batch in open_dataset(STORAGE, path, table).read(STORAGE, end=rows):
        for row in batch.to_pylist():
            yield f"row {shown}"
            yield from (f"  {name}: {_cell(value)}" for name, value in row.items())
            shown += 1


def _retrieval_view(row: dict[str, Any]) -> Iterator[str]:
    yield f"question  {row['question']}"
    if row["answers"]:
        yield f"gold      {' | '.join(row['answers'])}"
    for passage in row["passages"]:
        yield f"{passage['score']:>10.4f}  {passage['passage_id']}  {passage['title']}"
        yield f"            {_cell(passage['text'])}"


def _answer_view(row: dict[str, Any]) -> Iterator[str]:
    yield f"question  {row['question']}"
    yield f"answer    {row['answer']}"
    bound = f", at most {row['answer_bound']:.4f} more" if row["answer_bound"] else ""
    yield f"log p     {row['log_prob']:.4f}{bound} (finish: {row['finish_reason']})"
    for candidate in row["candidates"][1:]:
        yield f"  or      {candidate['answer']} ({candidate['log_prob']:.4f})"
    yield from _passages_view(row["passages"])
    if row["tokens"]:
        yield ""
        yield "posterior of each token over the passages"
        yield f"{'token':<18}{'log p':>9}  " + "".join(
            f"{f'[{n + 1}]':>7}" for n in range(len(row["passages"]))
        )
        for token in row["tokens"]:
            weights = "".join(f"{weight:>7.3f}" for weight in token["posterior"])
            yield f"{token['token']!r:<18}{token['log_prob']:>9.4f}  {weights}"


def _label_view(row: dict[str, Any]) -> Iterator[str]:
    yield f"claim     {row['question']}"
    yield f"label     {row['label']}"
    for label in row["label_probs"]:
        yield f"  {label['prob']:.4f}  {label['label']} (log p {label['log_prob']:.4f})"
    yield from _passages_view(row["passages"])


def _passages_view(passages: list[dict[str, Any]]) -> Iterator[str]:
    yield ""
    yield f"{'':<6}{'score':>10}{'prior':>9}{'posterior':>11}  passage"
    for number, passage in enumerate(passages, start=1):
        mark = f"[{number}]"
        yield (
            f"{mark:<6}{passage['score']:>10.4f}{passage['prior']:>9.4f}{passage['posterior']:>11.4f}  "
            f"{passage['passage_id']}  {passage['title']}"
        )
        if passage["text"]:
            yield f"{'':<38}{_cell(passage['text'])}"


_QUESTION_VIEWS = {"answers": _answer_view, "labels": _label_view, "retrievals": _retrieval_view}


def _cell(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _CELL_CHARACTERS else text[: _CELL_CHARACTERS - 1] + "…"


if __name__ == "__main__":
    raise SystemExit(main())
