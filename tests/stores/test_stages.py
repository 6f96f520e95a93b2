"""The stages on an object store: inputs, models and outputs there, and the tables of a run on the disk."""

from pathlib import Path

import pytest

from pipelines.dataset.manifest import read_manifest
from pipelines.dataset.reader import open_dataset
from pipelines.filesystems import STORAGE
from tests.pipelines.commands import manifest_of, rag_beam
from tests.pipelines.conftest import PASSAGE_WORDS, World
from tests.pipelines.damage import verify
from tests.stores.server import BUCKET, Store

OUT = f"s3://{BUCKET}/out"


@pytest.fixture
def remote(store: Store, world: World, tmp_path, monkeypatch) -> dict[str, str]:
    """Where the world's inputs and models lie on the store; copies go to a folder of the test's own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    paths = (world.corpus, world.questions, world.claims, world.passage_encoder, world.question_encoder)
    return {path.name: store.upload(path, f"world/{path.name}") for path in (*paths, world.generator)}


def rows(folder: str, table: str) -> list[dict]:
    return [row for batch in open_dataset(STORAGE, folder, table).read(STORAGE) for row in batch.to_pylist()]


def parts(folder: str | Path) -> list[tuple[str, str]]:
    """Names and contents of all that a manifest lists."""
    manifest = read_manifest(STORAGE, str(folder))
    assert manifest is not None, folder
    return [(part.name, part.sha256) for part in manifest.parts]


def test_passages_embeddings_index_and_retrievals_are_those_of_the_disk(remote, world, store):
    rag_beam("chunk", input=remote["corpus.jsonl"], passage_words=PASSAGE_WORDS, output=f"{OUT}/passages")
    made = {"passages": f"{OUT}/passages", "num_threads": 1}
    rag_beam("encode", **made, encoder=remote["passage_encoder"], unit_rows=30, output=f"{OUT}/embeddings")
    rag_beam("index", **made, embeddings=f"{OUT}/embeddings", shard_rows=50, output=f"{OUT}/index")
    retrieve = {
        "index": f"{OUT}/index",
        "questions": remote["questions.jsonl"],
        "encoder": remote["question_encoder"],
        "n_docs": 4,
        "num_threads": 1,
    }
    rag_beam("retrieve", **retrieve, output=f"{OUT}/retrievals")
    for name in ("passages", "embeddings", "index", "retrievals"):
        assert parts(f"{OUT}/{name}") == parts(world.made(name)), name
    put = store.put
    rag_beam("retrieve", **retrieve, output=f"{OUT}/retrievals")
    assert store.put == put  # nothing to do
    assert store.unfinished_uploads() == []
    assert not [key for key in store.names() if "/.work/" in key]


@pytest.mark.slow
def test_every_other_stage_and_command(remote, world, tmp_path, capsys):
    """What answers, scores, looks and proves; rejects; duplicates; training with its checkpoints."""
    for name in ("passages", "embeddings", "index", "retrievals", "claim_retrievals"):
        STORAGE.remove(f"{OUT}/{name}")
    store_corpus = f"s3://{BUCKET}/world/with_bad_lines.jsonl"
    with STORAGE.create(store_corpus) as file:
        file.write(world.corpus.read_bytes() + b"no json\n" + b'{"id": "d3", "text": "again"}\n')
    local = tmp_path / "local"
    (tmp_path / "with_bad_lines.jsonl").write_bytes(
        world.corpus.read_bytes() + b"no json\n" + b'{"id": "d3", "text": "again"}\n'
    )
    for out, corpus, path in (
        (OUT, store_corpus, remote),
        (str(local), tmp_path / "with_bad_lines.jsonl", {name: world.folder / name for name in remote}),
    ):
        rag_beam("chunk", input=corpus, passage_words=PASSAGE_WORDS, output=f"{out}/passages")
        made = {"passages": f"{out}/passages", "num_threads": 1}
        rag_beam("encode", **made, encoder=path["passage_encoder"], output=f"{out}/embeddings")
        rag_beam(
            "index",
            **made,
            embeddings=f"{out}/embeddings",
            factory="HNSW8,Flat",
            shard_rows=50,
            output=f"{out}/index",
        )
        search = {"index": f"{out}/index", "encoder": path["question_encoder"], "n_docs": 4, "num_threads": 1}
        rag_beam("retrieve", **search, questions=path["questions.jsonl"], output=f"{out}/retrievals")
        rag_beam("retrieve", **search, questions=path["claims.jsonl"], exact=True, output=f"{out}/claims")
        rag_beam(
            "retrieve",
            retriever="bm25",
            index=f"{out}/index",
            questions=path["questions.jsonl"],
            n_docs=4,
            output=f"{out}/by_words",
        )
        model = {"model": path["generator"], "num_threads": 1}
        rag_beam(
            "generate",
            retrievals=f"{out}/retrievals",
            **model,
            model_type="rag_sequence",
            max_new_tokens=3,
            output=f"{out}/answers",
        )
        rag_beam(
            "classify",
            retrievals=f"{out}/claims",
            **model,
            label_set=["SUPPORTS=yes", "REFUTES=no"],
            output=f"{out}/labels",
        )
        rag_beam(
            "evaluate",
            predictions=f"{out}/answers",
            references=path["questions.jsonl"],
            exports="kilt",
            output=f"{out}/scores",
        )
        rag_beam(
            "train_rag",
            questions=path["questions.jsonl"],
            index=f"{out}/index",
            model=path["generator"],
            question_encoder=path["question_encoder"],
            model_type="rag_token",
            n_docs=2,
            batch_questions=4,
            max_steps=2,
            checkpoint_every=1,
            max_target_tokens=4,
            num_threads=1,
            output=f"{out}/trained",
        )
        (gone := tmp_path / "gone.txt").write_text("d1#0\n")
        rag_beam("index", delete=gone, output=f"{out}/index")
    for name in ("passages", "embeddings", "retrievals", "claims", "by_words", "answers", "labels", "scores"):
        assert parts(f"{OUT}/{name}") == parts(local / name), name
        assert rows(f"{OUT}/{name}", manifest_of(local / name).table)
    assert STORAGE.list_files(f"{OUT}/passages/rejects")
    trained = [read_manifest(STORAGE, f"{out}/trained") for out in (OUT, local)]
    files = [{item["name"]: item["sha256"] for item in made.details["files"]} for made in trained if made]
    assert files[0] == files[1]
    remote_proofs, local_proofs = (
        verify(capsys, *(f"{out}/{name}" for name in ("scores", "labels", "trained", "index")))
        for out in (OUT, local)
    )
    assert (remote_proofs.status, remote_proofs.failed) == (0, set()), remote_proofs.text
    assert remote_proofs.skipped == local_proofs.skipped
    for folder in ("index", "trained/model", "answers"):
        rag_beam("inspect", f"{OUT}/{folder}")
    rag_beam("inspect", f"{OUT}/answers", question_id="q0")
