"""`rag-beam inspect`: what a folder is, and one answer as a person reads it."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.terminal import printable
from tests.pipelines.commands import rag_beam, read_table, status_of
from tests.pipelines.conftest import World


def shown(capsys: pytest.CaptureFixture, path: object, **options: object) -> str:
    """What the command prints."""
    capsys.readouterr()
    rag_beam("inspect", str(path), **options)
    return capsys.readouterr().out


def test_a_data_set_an_index_a_model_and_a_file(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    text = shown(capsys, world.made("passages"), rows=2)
    assert "passages, 1 files" in text and "40 read, 40 accepted" in text
    assert "passage_id: d0#0" in text and "passage_id: d0#1" in text and "d0#2" not in text
    text = shown(capsys, world.made("index"))
    assert "Flat" in text and "float16" in text and "shard-00001: 30 rows" in text
    assert str(world.passage_encoder) in text
    assert "dpr (DPRContextEncoder)" in shown(capsys, world.passage_encoder)
    pq.write_table(read_table(world.made("passages")), tmp_path / "mine.parquet")
    assert "passages made elsewhere" in shown(capsys, tmp_path / "mine.parquet", rows=0)


def test_one_answer_with_its_documents_and_posteriors(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rag_beam(
        "generate",
        retrievals=world.made("retrievals"),
        model=world.generator,
        model_type="rag_token",
        max_new_tokens=3,
        num_candidates=2,
        token_posteriors=True,
        output=tmp_path / "answers",
    )
    row = read_table(tmp_path / "answers").to_pylist()[6]
    text = shown(capsys, tmp_path / "answers", question_id="q6")
    assert row["question"] in text
    assert f"{row['log_prob']:.4f}" in text
    for passage in row["passages"]:
        assert passage["passage_id"] in text
        assert f"{passage['posterior']:.4f}" in text
        assert f"{passage['prior']:.4f}" in text
    assert "posterior of each token over the passages" in text
    for token in row["tokens"]:
        assert "".join(f"{weight:>7.3f}" for weight in token["posterior"]) in text


def test_one_label_and_one_retrieval(world: World, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rag_beam(
        "classify",
        retrievals=world.made("claim_retrievals"),
        model=world.generator,
        label_set=["SUPPORTS=yes", "REFUTES=no"],
        output=tmp_path / "labels",
    )
    row = read_table(tmp_path / "labels").to_pylist()[2]
    text = shown(capsys, tmp_path / "labels", question_id="2")
    assert f"label     {row['label']}" in text
    assert f"{row['label_probs'][1]['prob']:.4f}  REFUTES" in text
    found = read_table(world.made("retrievals")).to_pylist()[0]
    text = shown(capsys, world.made("retrievals"), question_id="q0")
    assert all(passage["passage_id"] in text for passage in found["passages"])


def test_what_cannot_be_shown(world: World, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for command in ("inspect", "run"):
        assert status_of(command) == 2
        text = capsys.readouterr().err
        assert "the following arguments are required" in text and "usage" not in text
    assert status_of("inspect", str(tmp_path / "nothing")) == 2
    assert "no such folder" in capsys.readouterr().err
    assert status_of("inspect", world.made("retrievals"), question_id="nobody") == 2
    assert "no row has the question_id 'nobody'" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert status_of("inspect", str(tmp_path / "empty")) == 2


def test_control_characters_are_made_visible() -> None:
    assert printable("a\x1b[31mb\u202ec\té") == "a�[31mb�c�é"
