"""Files that are not what was written: found by whoever reads them, and told in a sentence."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.dataset.manifest import MANIFEST
from tests.faults.refused import Options, refusal
from tests.pipelines.commands import manifest_of, rag_beam
from tests.pipelines.conftest import PASSAGE_WORDS, World
from tests.pipelines.damage import copied, edit_manifest, flip_byte


@pytest.fixture
def readers(world: World, whole_run: Path) -> dict[str, tuple[Path, str, Callable[[Path], Options]]]:
    """For each reading stage what it reads, and its command on a copy of that."""
    answering = {"model": world.generator, "num_threads": 1}
    asking = {"encoder": world.question_encoder, "questions": world.questions, "n_docs": 3, "num_threads": 1}
    embeddings, passages = whole_run / "embeddings", whole_run / "passages"
    return {
        "encode": (
            passages,
            "encode",
            lambda copy: {"passages": copy, "encoder": world.passage_encoder, "num_threads": 1},
        ),
        "index: embeddings": (
            embeddings,
            "index",
            lambda copy: {"embeddings": copy, "passages": passages},
        ),
        "index: passages": (
            passages,
            "index",
            lambda copy: {"embeddings": embeddings, "passages": copy},
        ),
        "retrieve": (whole_run / "index", "retrieve", lambda copy: asking | {"index": copy}),
        "generate": (
            whole_run / "retrievals",
            "generate",
            lambda copy: answering | {"retrievals": copy, "model_type": "rag_sequence", "max_new_tokens": 2},
        ),
        "classify": (
            whole_run / "claim_retrievals",
            "classify",
            lambda copy: answering | {"retrievals": copy, "label_set": ["SUPPORTS=yes", "REFUTES=no"]},
        ),
        "evaluate": (
            whole_run / "answers_rag_token",
            "evaluate",
            lambda copy: {"predictions": copy, "references": world.questions},
        ),
        "train_rag": (
            whole_run / "retrievals",
            "train_rag",
            lambda copy: (
                answering | {"retrievals": copy, "model_type": "rag_sequence", "n_docs": 2, "max_steps": 1}
            ),
        ),
    }


READERS = ["encode", "index: embeddings", "index: passages", "generate", "classify", "evaluate", "train_rag"]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "place", [0.5, *(pytest.param(place, marks=pytest.mark.slow) for place in (0, 0.2, 0.999))]
)
def test_a_flipped_byte_is_found_by_whoever_reads_it(
    readers, tmp_path: Path, capsys: pytest.CaptureFixture[str], reader: str, place: float
) -> None:
    made, stage, options = readers[reader]
    copy = copied(made, tmp_path)
    part = copy / manifest_of(copy).parts[-1].name
    flip_byte(part, int(part.stat().st_size * place))
    assert str(part) in refusal(capsys, tmp_path / "out", stage, options(copy))


@pytest.mark.parametrize(
    "reader", ["encode", *(pytest.param(r, marks=pytest.mark.slow) for r in READERS[1:])]
)
@pytest.mark.parametrize("left", [0, 100, -1])
def test_a_truncated_part_is_found_by_whoever_reads_it(
    readers, tmp_path: Path, capsys: pytest.CaptureFixture[str], reader: str, left: int
) -> None:
    made, stage, options = readers[reader]
    copy = copied(made, tmp_path)
    part = copy / manifest_of(copy).parts[-1].name
    part.write_bytes(part.read_bytes()[:left])
    assert str(part) in refusal(capsys, tmp_path / "out", stage, options(copy))


@pytest.mark.parametrize("file", ["shard-00000.vectors.npy", "shard-00001.passages.arrow"])
@pytest.mark.parametrize(
    "place", [0, 0.999, *(pytest.param(place, marks=pytest.mark.slow) for place in (0.01, 0.3, 0.5, 0.9))]
)
def test_a_flipped_byte_anywhere_in_an_index_is_found(
    readers, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, place: float
) -> None:
    made, stage, options = readers["retrieve"]
    copy = copied(made, tmp_path)
    flip_byte(copy / file, int((copy / file).stat().st_size * place))
    assert str(copy / file) in refusal(capsys, tmp_path / "out", stage, options(copy))


def test_a_part_of_another_run_under_the_same_name_is_found(
    readers, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, stage, options = readers["encode"]
    rag_beam("chunk", input=world.corpus, passage_words=PASSAGE_WORDS + 1, output=tmp_path / "others")
    copy = copied(made, tmp_path)
    part = manifest_of(copy).parts[0].name
    shutil.copy(tmp_path / "others" / part, copy / part)
    assert part in refusal(capsys, tmp_path / "out", stage, options(copy))


def edited(path: str, value: Any) -> Callable[[Path], object]:
    """An edit by hand of what stands at `path` in a manifest."""

    def change(manifest: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        place: Any = manifest
        for name in parents:
            place = place[int(name) if name.isdigit() else name]
        place[int(last) if last.isdigit() else last] = value

    return lambda file: edit_manifest(file.parent, change, sealed=False)


MANIFESTS: dict[str, Callable[[Path], object]] = {
    "counts": edited("counts.read", 41),
    "a part's name": edited("parts.0.name", "part-00009-00000.parquet"),
    "a part's size": edited("parts.0.bytes", 1),
    "a part's rows": edited("parts.0.rows", 1),
    "fingerprint": edited("fingerprint", "0" * 64),
    "no text": edited("created_by", "\ud800"),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-40]),
    "empty": lambda file: file.write_bytes(b""),
    "not JSON": lambda file: file.write_bytes(b"{'table': 'passages'}"),
    "not UTF-8": lambda file: file.write_bytes(file.read_bytes().replace(b"rag-beam", b"rag\xffbeam", 1)),
    "an array": lambda file: file.write_bytes(b"[" + file.read_bytes() + b"]"),
    "an endless array": lambda file: file.write_bytes(b"[" * 100_000),
}


@pytest.mark.parametrize("damage", MANIFESTS)
@pytest.mark.parametrize(
    "reader", ["encode", "retrieve", *(pytest.param(r, marks=pytest.mark.slow) for r in READERS[1:])]
)
def test_a_manifest_that_is_not_what_was_written_is_refused_by_whoever_reads_it(
    readers, tmp_path: Path, capsys: pytest.CaptureFixture[str], reader: str, damage: str
) -> None:
    made, stage, options = readers[reader]
    copy = copied(made, tmp_path)
    MANIFESTS[damage](copy / MANIFEST)
    assert str(copy / MANIFEST) in refusal(capsys, tmp_path / "out", stage, options(copy))
