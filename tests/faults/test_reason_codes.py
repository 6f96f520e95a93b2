"""Every code under which a record is rejected or left out comes of some input: one for each, found here.

A code that is added without one fails.
"""

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from pipelines.training.questions import Ledger
from pipelines.training.rag_questions import RagSources
from rag_core.generator import load_generator
from rag_core.records import LeaveOutReason, RejectReason
from schemas import TABLES
from tests.faults.examined_reading import examine
from tests.faults.seed_files import EXPORT
from tests.pipelines.commands import manifest_of, rag_beam, read_table
from tests.pipelines.conftest import World, write_lines

Counted = Counter[str]
Made = Callable[[World, Path], Counted]


def of_file(reads: str, wanted_format: str, content: str | bytes) -> Made:
    """What a reader makes of a file."""

    def count(world: World, folder: Path) -> Counted:
        path = folder / "file"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        counts = examine(str(path), reads, wanted_format).counts
        return counts.rejected + counts.left_out

    return count


def of_duplicate_ids(world: World, folder: Path) -> Counted:
    write_lines(folder / "c.jsonl", [{"id": "a", "text": "one"}, {"id": "a", "text": "two"}])
    rag_beam("chunk", input=folder / "c.jsonl", output=folder / "out")
    return manifest_of(folder / "out").counts.rejected


def of_retrievals_without_passages(world: World, folder: Path) -> Counted:
    rows = read_table(world.made("retrievals")).to_pylist()
    rows[0]["passages"] = []
    pq.write_table(pa.Table.from_pylist(rows[:2], schema=TABLES["retrievals"]), folder / "r.parquet")
    common = {"model": world.generator, "model_type": "rag_sequence", "max_new_tokens": 2}
    rag_beam("generate", retrievals=folder / "r.parquet", **common, output=folder / "out")
    return manifest_of(folder / "out").counts.rejected


def of_weights_that_are_no_numbers(world: World, folder: Path) -> Counted:
    encoder = Path(shutil.copytree(world.passage_encoder, folder / "encoder"))
    weights = load_file(encoder / "model.safetensors")
    save_file({name: tensor * math.nan for name, tensor in weights.items()}, encoder / "model.safetensors")
    write_lines(folder / "p.jsonl", [{"passage_id": "p", "text": "words"}])
    rag_beam("chunk", input=folder / "p.jsonl", output=folder / "passages")
    rag_beam("encode", passages=folder / "passages", encoder=encoder, output=folder / "out")
    return manifest_of(folder / "out").counts.rejected


def of_deletions(world: World, folder: Path) -> Counted:
    index = shutil.copytree(world.made("index"), folder / "index")
    first = read_table(world.made("passages")).column("passage_id")[0].as_py()
    (folder / "ids.txt").write_text(f"nobody\n{first}\n{first}\n")
    rag_beam("index", delete=folder / "ids.txt", output=index)
    counts = manifest_of(index).counts
    return counts.rejected + counts.left_out


def of_questions_without_answers(world: World, folder: Path) -> Counted:
    write_lines(folder / "q.jsonl", [{"question": "Who?"}])
    contexts = load_generator(str(world.generator), device="cpu").contexts
    ledger = Ledger()
    RagSources.plan([str(folder / "q.jsonl")], None, "auto").read(1, contexts, ledger)
    return ledger.counts.left_out


TRAINING = json.dumps([{"question": "Who?", "answers": ["a"], "positive_ctxs": []}])
GIVEN_BY: Mapping[RejectReason | LeaveOutReason, Made] = {
    RejectReason.BAD_ENCODING: of_file("corpus", "jsonl", b'{"text": "caf\xe9"}\n'),
    RejectReason.BAD_FIELD: of_file("corpus", "jsonl", '{"text": 5}\n'),
    RejectReason.BAD_JSON: of_file("questions", "jsonl", "{question\n"),
    RejectReason.BAD_ROW: of_file("corpus", "dpr_tsv", "1\tonly a text\n"),
    RejectReason.DUPLICATE_ID: of_duplicate_ids,
    RejectReason.NO_PASSAGES: of_retrievals_without_passages,
    RejectReason.NOT_FINITE: of_weights_that_are_no_numbers,
    RejectReason.TRUNCATED_FILE: of_file("training", "dpr_training", TRAINING[:-1]),
    RejectReason.UNKNOWN_ID: of_deletions,
    LeaveOutReason.ALREADY_GONE: of_deletions,
    LeaveOutReason.EMPTY_LINE: of_file("corpus", "jsonl", "\n"),
    LeaveOutReason.EMPTY_DOCUMENT: of_file("corpus", "wikipedia_xml", EXPORT),
    LeaveOutReason.EMPTY_QUESTION: of_file("questions", "jsonl", '{"question": " "}\n'),
    LeaveOutReason.NO_ANSWER: of_questions_without_answers,
    LeaveOutReason.NO_POSITIVE: of_file("training", "dpr_training", TRAINING),
    LeaveOutReason.REDIRECT: of_file("corpus", "wikipedia_xml", EXPORT),
    LeaveOutReason.OTHER_NAMESPACE: of_file("corpus", "wikipedia_xml", EXPORT),
}


@pytest.mark.parametrize("reason", [*RejectReason, *LeaveOutReason])
def test_every_code_comes_of_some_input(
    world: World, tmp_path: Path, reason: RejectReason | LeaveOutReason
) -> None:
    assert reason in GIVEN_BY, f"no input here gives {reason!r}: add one"
    assert GIVEN_BY[reason](world, tmp_path)[reason] >= 1


def test_no_code_is_both() -> None:
    assert not set(map(str, RejectReason)) & set(map(str, LeaveOutReason))
