"""`retrieve --retriever bm25` writes the table of any other retrieval, by words."""

from pathlib import Path

import numpy as np
import pytest

from rag_core.bm25 import Bm25
from schemas import TABLES
from tests.pipelines.commands import manifest_of, rag_beam, read_table, status_of
from tests.pipelines.conftest import World


def retrieve(world: World, index: str | Path, output: Path, **options: object) -> list[dict]:
    rag_beam(
        "retrieve",
        index=index,
        questions=world.questions,
        retriever="bm25",
        n_docs=4,
        output=output,
        **options,
    )
    table = read_table(output)
    assert table.schema.equals(TABLES["retrievals"])
    return table.to_pylist()


def test_passages_and_scores_are_bm25s(world: World, tmp_path: Path) -> None:
    rows = retrieve(world, world.made("index"), tmp_path / "out")
    passages = read_table(world.made("passages")).to_pylist()
    ids = [passage["passage_id"] for passage in passages]
    bm25 = Bm25(
        [f"{passage['title']} {passage['text']}" for passage in passages],
        np.arange(len(passages)),
        k1=0.9,
        b=0.4,
        ids_of=lambda rows: [ids[row] for row in rows],
    )
    expected = bm25.search([row["question"] for row in rows], 4)
    for row, found, scores in zip(rows, expected.rows.tolist(), expected.scores.tolist(), strict=True):
        assert [passage["passage_id"] for passage in row["passages"]] == [ids[i] for i in found if i >= 0]
        assert [passage["score"] for passage in row["passages"]] == [
            score for score, i in zip(scores, found, strict=True) if i >= 0
        ]
    assert any(row["passages"] for row in rows)
    manifest = manifest_of(tmp_path / "out")
    assert manifest.details["bm25"] == {"k1": 0.9, "b": 0.4}
    assert manifest.counts.read == manifest.counts.accepted == len(rows)


def test_blocks_of_questions_change_nothing(world: World, tmp_path: Path) -> None:
    one = retrieve(world, world.made("index"), tmp_path / "one")
    assert retrieve(world, world.made("index"), tmp_path / "two", question_block=3) == one


def test_deleted_passages_are_not_found(world: World, tmp_path: Path) -> None:
    index = tmp_path / "index"
    rag_beam("index", embeddings=world.made("embeddings"), passages=world.made("passages"), output=index)
    before = retrieve(world, index, tmp_path / "before")
    gone = before[0]["passages"][0]["passage_id"]
    (tmp_path / "gone.txt").write_text(f"{gone}\n")
    rag_beam("index", delete=tmp_path / "gone.txt", output=index)
    after = retrieve(world, index, tmp_path / "after")
    found = {passage["passage_id"] for row in after for passage in row["passages"]}
    assert gone not in found
    assert found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--encoder is required, unless --retriever is bm25"),
        ({"retriever": "bm25", "nprobe": 3}, "--nprobe: has no meaning with --retriever bm25"),
        ({"encoder": "m", "bm25_k1": 1.2}, "--bm25_k1: has no meaning with --retriever dense"),
    ],
)
def test_options_of_the_other_retriever_are_refused(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict, message: str
) -> None:
    asked = {"index": world.made("index"), "questions": world.questions, "output": tmp_path / "out"}
    assert status_of("retrieve", **asked, **options) == 2
    assert message in capsys.readouterr().err
