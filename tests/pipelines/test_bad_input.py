"""What bad input gets: the table of the contract, row by row, from the command line."""

import bz2
import gzip
import json
import shutil
from pathlib import Path

import pytest

from tests.pipelines.commands import manifest_of, rag_beam, read_rejects, read_table, status_of
from tests.pipelines.conftest import World, write_lines
from tests.rag_core.tiny_encoders import write_dpr_passage_encoder, write_sentence_transformer

PAGE = "<page><title>Title {n}</title><ns>0</ns><id>{n}</id><revision><text>{text}</text></revision></page>\n"


def stderr_of(capsys: pytest.CaptureFixture) -> str:
    """What was printed to standard error: one sentence, no traceback."""
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.parametrize("command", ["chunk", "retrieve"])
def test_no_file_matches(world: World, out: Path, capsys: pytest.CaptureFixture, command: str) -> None:
    pattern = f"{world.folder}/nothing-*.jsonl"
    options = (
        {"input": pattern}
        if command == "chunk"
        else {"questions": pattern, "index": world.made("index"), "encoder": world.question_encoder}
    )
    assert status_of(command, output=out, **options) == 2
    assert pattern in stderr_of(capsys)
    assert not out.exists()


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.txt", "empty.tsv", "empty.xml"])
def test_an_empty_file(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture, name: str) -> None:
    (tmp_path / name).touch()
    assert status_of("chunk", input=tmp_path / name, output=out) == 2
    assert name in stderr_of(capsys)


@pytest.mark.parametrize("content", ["", "question\tanswers\n", "\n"])
def test_a_question_file_without_rows(
    world: World, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture, content: str
) -> None:
    path = tmp_path / "none.tsv"
    path.write_text(content)
    options = {"index": world.made("index"), "encoder": world.question_encoder, "questions": path}
    assert status_of("retrieve", output=out, **options) == 2
    assert "none.tsv" in stderr_of(capsys)


def test_documents_without_text_or_title_and_empty_lines(tmp_path: Path, out: Path) -> None:
    lines = [
        '{"id": "a", "title": "A", "text": ""}',
        "",
        '{"id": "b", "text": "some words"}',
        '{"id": "c", "title": "C", "text": " "}',
    ]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    rag_beam("chunk", input=tmp_path / "corpus.jsonl", output=out)
    counts = manifest_of(out).counts
    assert (counts.read, counts.accepted) == (4, 1)
    assert counts.left_out == {"empty_document": 2, "empty_line": 1}
    assert read_table(out).to_pylist() == [
        {"passage_id": "b#0", "document_id": "b", "passage_number": 0, "title": "", "text": "some words"}
    ]


@pytest.mark.parametrize("text", ["word " * 2_000_000, "x" * 10_000_000], ids=["line", "word"])
def test_ten_megabytes_in_one_line(tmp_path: Path, out: Path, text: str) -> None:
    write_lines(tmp_path / "long.jsonl", [{"id": "long", "title": "t", "text": text}])
    rag_beam("chunk", input=tmp_path / "long.jsonl", output=out)
    table = read_table(out)
    assert table.num_rows == (20_000 if " " in text else 1)
    assert " ".join(table.column("text").to_pylist()) == text.strip()


def test_bad_lines_are_rejected_and_the_others_kept(tmp_path: Path, out: Path) -> None:
    good = [json.dumps({"id": f"g{n}", "title": "t", "text": f"words {n}"}).encode() for n in range(3)]
    bad = [
        b'{"id": "x", "text": "caf\xe9"}',
        b"{not json",
        b'{"id": "y", "title": "t"}',
        b'{"id": "z", "text": 5}',
        b"[1, 2]",
    ]
    lines = [good[0], *bad[:2], good[1], *bad[2:], good[2]]
    (tmp_path / "corpus.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    rag_beam("chunk", input=tmp_path / "corpus.jsonl", input_format="jsonl", output=out)
    assert read_table(out).column("document_id").to_pylist() == ["g0", "g1", "g2"]
    rejects = {row["position"]: row for row in read_rejects(out)}
    assert {position: row["reason"] for position, row in rejects.items()} == {
        1: "bad_encoding",
        2: "bad_json",
        4: "bad_field",
        5: "bad_field",
        6: "bad_json",
    }
    assert all(row["stage"] == "chunk" and row["source"].endswith("corpus.jsonl") for row in rejects.values())
    counts = manifest_of(out).counts
    assert counts.read == counts.accepted + counts.rejected.total() == 8


def test_a_row_with_too_few_or_too_many_columns(tmp_path: Path, out: Path) -> None:
    (tmp_path / "p.tsv").write_text("id\ttext\ttitle\n1\tsome text\tT\n2\tno title\n3\ta\tb\tc\n4\tlast\tT\n")
    rag_beam("chunk", input=tmp_path / "p.tsv", output=out)
    assert read_table(out).column("passage_id").to_pylist() == ["1", "4"]
    assert [(row["position"], row["reason"]) for row in read_rejects(out)] == [(1, "bad_row"), (2, "bad_row")]


@pytest.mark.parametrize("kind", ["bz2", "gz", "xml"])
def test_a_truncated_file_keeps_what_was_read(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture, kind: str
) -> None:
    # texts that compress badly, so that half of the file holds pages
    pages = "".join(
        PAGE.format(n=n, text=" ".join(str(hash((n, i)) % 10**9) for i in range(300))) for n in range(60)
    )
    whole = f"<mediawiki>\n{pages}</mediawiki>\n".encode()
    compress = {"bz2": lambda data: bz2.compress(data, 1), "gz": gzip.compress, "xml": bytes}[kind]
    name = "dump.xml" if kind == "xml" else f"dump.xml.{kind}"
    content = compress(whole)
    (tmp_path / name).write_bytes(content[: len(content) * 3 // 4])
    assert status_of("chunk", input=tmp_path / name, output=out) == 1
    assert "truncated_file 1" in stderr_of(capsys)
    [reject] = read_rejects(out)
    assert reject["reason"] == "truncated_file"
    assert name in reject["source"]
    assert reject["position"] > 0
    # the same command goes on from there once the loss is accepted
    rag_beam("chunk", input=tmp_path / name, output=out, max_rejects=0.1)
    documents = read_table(out).column("document_id").unique().to_pylist()
    assert documents == [str(n) for n in range(len(documents))]
    assert 10 < len(documents) < 60


def test_duplicate_ids_keep_the_first(tmp_path: Path, out: Path) -> None:
    rows = [{"passage_id": str(n % 4), "text": f"text {n}"} for n in range(6)]
    write_lines(tmp_path / "passages.jsonl", rows)
    rag_beam("chunk", input=tmp_path / "passages.jsonl", output=out)
    assert read_table(out).select(["passage_id", "text"]).to_pylist() == [
        {"passage_id": str(n), "text": f"text {n}"} for n in range(4)
    ]
    assert [(row["record_id"], row["position"], row["reason"]) for row in read_rejects(out)] == [
        ("0", 4, "duplicate_id"),
        ("1", 5, "duplicate_id"),
    ]


def test_a_document_that_comes_twice_is_rejected_with_all_its_passages(tmp_path: Path, out: Path) -> None:
    write_lines(
        tmp_path / "a.jsonl", [{"id": "same", "text": "one two three"}, {"id": "other", "text": "x y"}]
    )
    write_lines(tmp_path / "b.jsonl", [{"id": "same", "text": "one two three four five"}])
    rag_beam("chunk", input=[tmp_path / "a.jsonl", tmp_path / "b.jsonl"], passage_words=2, output=out)
    assert read_table(out).column("passage_id").to_pylist() == ["same#0", "same#1", "other#0"]
    [reject] = read_rejects(out)
    assert reject["source"].endswith("b.jsonl")
    assert "a.jsonl" in reject["message"]


def test_duplicate_question_ids(world: World, tmp_path: Path, out: Path) -> None:
    write_lines(tmp_path / "q.jsonl", [{"id": n, "question": f"Who {n}?"} for n in (1, 2, 1)])
    rag_beam(
        "retrieve",
        index=world.made("index"),
        questions=tmp_path / "q.jsonl",
        encoder=world.question_encoder,
        n_docs=1,
        output=out,
    )
    assert read_table(out).column("question_id").to_pylist() == ["1", "2"]
    assert [row["reason"] for row in read_rejects(out)] == ["duplicate_id"]
    counts = manifest_of(out).counts
    assert (counts.read, counts.accepted, dict(counts.rejected)) == (3, 2, {"duplicate_id": 1})


def test_more_documents_than_the_index_holds(world: World, out: Path, capsys: pytest.CaptureFixture) -> None:
    rag_beam(
        "retrieve",
        index=world.made("index"),
        questions=world.questions,
        encoder=world.question_encoder,
        n_docs=5_000,
        output=out,
    )
    rows = manifest_of(world.made("passages")).rows
    assert f"holds {rows} passages, all of them are returned" in stderr_of(capsys)
    assert {len(passages) for passages in read_table(out).column("passages").to_pylist()} == {rows}


def test_an_index_of_another_encoder(world: World, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One tower that made the index and another that asks; another dimension; a passage encoder."""
    one, other = (write_sentence_transformer(tmp_path / f"st{seed}", seed=seed) for seed in (7, 8))
    rag_beam("encode", passages=world.made("passages"), encoder=one, output=tmp_path / "embeddings")
    rag_beam(
        "index",
        embeddings=tmp_path / "embeddings",
        passages=world.made("passages"),
        output=tmp_path / "index",
    )
    common = {"questions": world.questions, "n_docs": 2}
    assert (
        status_of("retrieve", index=tmp_path / "index", encoder=other, output=tmp_path / "r", **common) == 2
    )
    text = stderr_of(capsys)
    assert str(other) in text and str(one) in text
    assert (
        status_of(
            "retrieve",
            index=world.made("index"),
            encoder=world.passage_encoder,
            output=tmp_path / "r",
            **common,
        )
        == 2
    )
    assert "question encoder" in stderr_of(capsys)
    wide = write_sentence_transformer(tmp_path / "wide", dense_dimension=5)
    assert status_of("retrieve", index=tmp_path / "index", encoder=wide, output=tmp_path / "r", **common) == 2
    assert "5 dimensions" in stderr_of(capsys)


def test_embeddings_of_another_corpus(world: World, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rag_beam("chunk", input=world.corpus, passage_words=10, output=tmp_path / "others")
    options = {"embeddings": world.made("embeddings"), "passages": tmp_path / "others"}
    assert status_of("index", output=tmp_path / "index", **options) == 2
    text = stderr_of(capsys)
    assert world.made("passages") in text and str(tmp_path / "others") in text


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "manifest"])
def test_a_damaged_input_is_refused_before_anything_is_written(
    world: World, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture, damage: str
) -> None:
    copy = tmp_path / "passages"
    shutil.copytree(world.made("passages"), copy)
    part = copy / manifest_of(copy).parts[0].name
    content = bytearray(part.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        part.write_bytes(content)
    elif damage == "cut":
        part.write_bytes(content[:-10])
    elif damage == "missing":
        part.unlink()
    else:
        manifest = copy / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"read": 40', '"read": 41'))
    assert status_of("encode", passages=copy, encoder=world.passage_encoder, output=out) == 2
    assert ("manifest.json" if damage == "manifest" else part.name) in stderr_of(capsys)
    assert not list(out.glob("part-*"))


@pytest.mark.parametrize("suffix", [".vectors.npy", ".passages.arrow"])
def test_a_flipped_byte_in_a_shard_is_refused(
    world: World, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture, suffix: str
) -> None:
    shutil.copytree(world.made("index"), tmp_path / "index")
    shard = sorted((tmp_path / "index").glob(f"*{suffix}"))[1]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    options = {"index": tmp_path / "index", "questions": world.questions, "encoder": world.question_encoder}
    assert status_of("retrieve", output=out, n_docs=3, **options) == 2
    assert shard.name in stderr_of(capsys)
    assert not list(out.glob("part-*"))


def test_output_folders_that_may_not_be_used(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "thesis.txt").write_text("mine")
    for options in ({}, {"overwrite": True}):
        assert status_of("chunk", input=world.corpus, output=strange, **options) == 2
        assert "thesis.txt" in stderr_of(capsys)
    assert [path.name for path in strange.iterdir()] == ["thesis.txt"]
    rag_beam("chunk", input=world.corpus, output=tmp_path / "passages")
    capsys.readouterr()
    assert status_of("chunk", input=world.corpus, passage_words=50, output=tmp_path / "passages") == 2
    assert "passage_words was 100, is 50" in stderr_of(capsys)
    rag_beam("chunk", input=world.corpus, passage_words=50, output=tmp_path / "passages", overwrite=True)
    assert manifest_of(tmp_path / "passages").settings["passage_words"] == 50


def test_an_unfinished_folder_is_refused_as_input(
    world: World, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture
) -> None:
    copy = tmp_path / "passages"
    shutil.copytree(world.made("passages"), copy)
    (copy / "manifest.json").unlink()
    assert status_of("encode", passages=copy, encoder=world.passage_encoder, output=out) == 2
    assert "unfinished" in stderr_of(capsys)


def test_models_that_do_not_fit(
    world: World, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture
) -> None:
    assert (
        status_of("encode", passages=world.made("passages"), encoder=world.question_encoder, output=out) == 2
    )
    assert "question encoder" in stderr_of(capsys)
    assert status_of("encode", passages=world.made("passages"), encoder=world.generator, output=out) == 2
    assert "RAG checkpoint" in stderr_of(capsys)
    encoder = write_dpr_passage_encoder(tmp_path / "encoder")
    (encoder / "model.safetensors").rename(encoder / "pytorch_model.bin")
    assert status_of("encode", passages=world.made("passages"), encoder=encoder, output=out) == 2
    assert "--allow_pickle" in stderr_of(capsys)
    common = {"retrievals": world.made("retrievals"), "model_type": "rag_token", "output": out}
    assert status_of("generate", model=tmp_path / "no-model", **common) == 2
    assert "no-model" in stderr_of(capsys)
    labels = {"retrievals": world.made("claim_retrievals"), "model": world.generator, "output": out}
    assert status_of("classify", label_set=["A=yes", "B=yes, it is"], **labels) == 2
    assert "begins that of" in stderr_of(capsys)
    assert status_of("classify", label_set=["A=yes", "A=no"], **labels) == 2
    assert "twice" in stderr_of(capsys)
