"""`rag-beam verify` follows the inputs back to the corpus."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.dataset.manifest import fingerprint
from tests.pipelines.commands import manifest_of, rag_beam, read_table
from tests.pipelines.conftest import World
from tests.pipelines.damage import changed_rows, edit_manifest, rewrite_part, verify


@pytest.fixture(scope="module")
def made_run(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A short run on a corpus of its own, where it was made and a copy of it."""
    home = tmp_path_factory.mktemp("run") / "home"
    home.mkdir()
    shutil.copy(world.corpus, home / "corpus.jsonl")
    out = home / "out"
    rag_beam("chunk", input=home / "corpus.jsonl", passage_words=20, output=out / "passages")
    rag_beam(
        "encode",
        passages=out / "passages",
        encoder=world.passage_encoder,
        num_threads=1,
        output=out / "embeddings",
    )
    made = {"embeddings": out / "embeddings", "passages": out / "passages"}
    rag_beam("index", **made, output=out / "index")
    return home, Path(shutil.copytree(home, home.with_name("copy")))


@pytest.fixture
def own_run(made_run: tuple[Path, Path]) -> Iterator[Path]:
    """The run's output, beside its corpus; a test may change all of it."""
    home, copy = made_run
    yield home / "out"
    for path in home.parent.iterdir():
        if path != copy:
            shutil.rmtree(path)
    shutil.copytree(copy, home)


def test_a_source_file_that_changed(own_run: Path, capsys: pytest.CaptureFixture) -> None:
    corpus = own_run.parent / "corpus.jsonl"
    before = corpus.read_text()
    assert verify(capsys, own_run / "index").status == 0
    corpus.write_text(before + "\n")
    said = verify(capsys, own_run / "index")  # two links away
    assert said.status == 1 and said.failed == {"inputs"}
    assert f"{own_run}/passages/manifest.json: made from {corpus}" in said.text
    assert "its content has changed since" in said.text
    said = verify(capsys, own_run)
    assert said.text.count("its content has changed since") == 1  # told where it belongs
    corpus.write_text(before)
    assert verify(capsys, own_run).status == 0


def test_links_that_cannot_be_followed_are_no_errors(own_run: Path, capsys: pytest.CaptureFixture) -> None:
    corpus = own_run.parent / "corpus.jsonl"
    corpus.unlink()
    said = verify(capsys, own_run)
    assert said.status == 0
    assert said.failed == set() and said.skipped == {"inputs"}
    assert f"made from {corpus}: nothing lies there now" in said.text
    shutil.rmtree(own_run / "passages")
    said = verify(capsys, own_run / "embeddings")
    assert said.status == 0
    assert said.skipped == {"inputs", "order"}
    shutil.move(own_run / "embeddings", own_run.parent / "elsewhere")
    assert verify(capsys, own_run / "index").skipped == {"inputs", "order"}


def test_a_run_that_was_moved_is_followed_within(own_run: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.move(own_run, own_run.parent / "moved")
    said = verify(capsys, own_run.parent / "moved")
    assert said.status == 0
    assert said.failed == said.skipped == set(), said.text


def test_an_input_that_is_another_data_set_now(
    own_run: Path, world: World, capsys: pytest.CaptureFixture
) -> None:
    rag_beam(
        "chunk",
        input=own_run.parent / "corpus.jsonl",
        passage_words=10,
        overwrite=True,
        output=own_run / "passages",
    )
    said = verify(capsys, own_run)
    assert said.status == 1
    assert said.failed == {"inputs"} and said.skipped == {"order"}
    now = manifest_of(own_run / "passages").fingerprint[:12]
    assert f"it is now another data set (passages, {now}…)" in said.text


def test_an_ancestor_whose_settings_were_edited(own_run: Path, capsys: pytest.CaptureFixture) -> None:
    edit_manifest(own_run / "passages", lambda manifest: manifest["settings"].update(min_words=7))
    said = verify(capsys, own_run / "index")
    assert said.status == 1 and said.failed == {"inputs"}
    assert f"{own_run}/passages/manifest.json: its fingerprint is" in said.text


def test_an_index_that_has_grown_is_not_taken_for_another(
    own_run: Path, world: World, capsys: pytest.CaptureFixture
) -> None:
    rag_beam(
        "retrieve",
        index=own_run / "index",
        questions=world.questions,
        encoder=world.question_encoder,
        n_docs=2,
        output=own_run / "retrievals",
    )
    (own_run.parent / "ids.txt").write_text("d0#0\n")
    rag_beam("index", delete=own_run.parent / "ids.txt", output=own_run / "index")
    said = verify(capsys, own_run)
    assert said.status == 0, said.text
    assert said.skipped == {"inputs", "order"}
    assert "that index has grown since" in said.text
    (own_run.parent / "ids.txt").write_text("d0#1\n")
    assert verify(capsys, own_run / "index").failed == {"inputs"}


def test_passages_and_models_made_elsewhere(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    mine = tmp_path / "mine.parquet"
    pq.write_table(read_table(world.made("passages")), mine)
    rag_beam(
        "encode",
        passages=mine,
        encoder=world.passage_encoder,
        num_threads=1,
        output=tmp_path / "embeddings",
    )
    said = verify(capsys, tmp_path / "embeddings")
    assert said.status == 0
    assert said.failed == said.skipped == set(), said.text
    pq.write_table(read_table(world.made("passages")).slice(1), mine)
    said = verify(capsys, tmp_path / "embeddings")
    assert said.failed == {"inputs"} and said.skipped == {"order"}


def test_a_device_in_place_of_an_input_is_not_read(own_run: Path, capsys: pytest.CaptureFixture) -> None:
    def endless(manifest: dict) -> None:
        manifest["inputs"][0]["path"] = "/dev/zero"

    edit_manifest(own_run / "passages", endless)
    said = verify(capsys, own_run / "passages")
    assert said.status == 0 and said.skipped == {"inputs"}


def test_embeddings_in_another_order_than_their_passages(
    own_run: Path, capsys: pytest.CaptureFixture
) -> None:
    embeddings = own_run / "embeddings"
    rewrite_part(embeddings, lambda table: pa.concat_tables([table.slice(1), table.slice(0, 1)]))
    said = verify(capsys, embeddings)
    assert said.status == 1 and said.failed == {"order"}
    assert "is passage 'd0#0', which" in said.text
    assert "order" in verify(capsys, own_run / "index").failed


def test_embeddings_of_other_texts_and_of_too_few_passages(
    own_run: Path, capsys: pytest.CaptureFixture
) -> None:
    def other_text(rows: list[dict]) -> None:
        rows[4]["content_hash"] = bytes(16)

    embeddings = own_run / "embeddings"
    rewrite_part(embeddings, changed_rows(other_text))
    said = verify(capsys, embeddings)
    assert said.failed == {"order"}
    assert "row 4 was encoded from another title or text" in said.text
    rewrite_part(embeddings, lambda table: table.slice(0, len(table) - 2))
    said = verify(capsys, embeddings)
    assert {"order", "counts"} <= said.failed
    assert "2 passages of" in said.text and "have no vector, expected 0" in said.text


def test_a_name_on_the_hub_is_told_as_such(own_run: Path, capsys: pytest.CaptureFixture) -> None:
    name = "someone/a_data_set"

    def on_the_hub(manifest: dict) -> None:
        manifest["inputs"][0] = {"path": name, "fingerprint": fingerprint(["name", name])}

    edit_manifest(own_run / "passages", on_the_hub)
    said = verify(capsys, own_run / "passages")
    assert "is the name of a data set on the hub" in said.text
