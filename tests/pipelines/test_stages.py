"""The stages, one after the other, against what rag_core and plain arithmetic give."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_core.encoders import load_passage_encoder, load_question_encoder
from rag_core.metrics import score_retrievals
from rag_core.metrics.retrieval import Reference, RetrievedPassage
from schemas import TABLES
from schemas.embeddings import embeddings_schema
from tests.pipelines.commands import manifest_of, rag_beam, read_rejects, read_table, status_of
from tests.pipelines.conftest import PASSAGE_WORDS, PLACES, World, document_text, write_lines


def test_chunk_cuts_documents_into_disjoint_passages(world: World) -> None:
    expected = []
    for number in range(40):
        words = document_text(number).split()
        for passage, begin in enumerate(range(0, len(words), PASSAGE_WORDS)):
            expected.append(
                {
                    "passage_id": f"d{number}#{passage}",
                    "document_id": f"d{number}",
                    "passage_number": passage,
                    "title": PLACES[number % len(PLACES)],
                    "text": " ".join(words[begin : begin + PASSAGE_WORDS]),
                }
            )
    table = read_table(world.made("passages"))
    assert table.schema.equals(TABLES["passages"])
    assert table.to_pylist() == expected
    counts = manifest_of(world.made("passages")).counts
    assert (counts.read, counts.accepted, counts.rows_written) == (40, 40, len(expected))


def test_encode_keeps_parts_rows_and_order(world: World) -> None:
    passages, embeddings = read_table(world.made("passages")), read_table(world.made("embeddings"))
    assert embeddings.column("passage_id").equals(passages.column("passage_id"))
    encoder = load_passage_encoder(str(world.passage_encoder))
    assert embeddings.schema.equals(embeddings_schema(encoder.dimension, "float16"))
    titles, texts = passages.column("title").to_pylist(), passages.column("text").to_pylist()
    expected = encoder.encode(titles, texts, batch_tokens=1)
    found = np.array(embeddings.column("vector").to_pylist(), dtype=np.float32)
    # half precision keeps 11 bits; encoding one by one instead of in batches changes less than that
    np.testing.assert_allclose(found, expected, rtol=2**-10, atol=1e-4)
    names = [
        [part.name for part in manifest_of(world.made(name)).parts] for name in ("passages", "embeddings")
    ]
    assert names[0] == names[1]


def test_retrieve_finds_what_brute_force_finds(world: World) -> None:
    embeddings = read_table(world.made("embeddings"))
    vectors = np.array(embeddings.column("vector").to_pylist(), dtype=np.float64)
    ids = embeddings.column("passage_id").to_pylist()
    encoder = load_question_encoder(str(world.question_encoder))
    rows = read_table(world.made("retrievals")).to_pylist()
    assert [row["question_id"] for row in rows] == [f"q{number}" for number in range(len(PLACES))]
    passages = {row["passage_id"]: row for row in read_table(world.made("passages")).to_pylist()}
    questions = encoder.encode([row["question"] for row in rows], batch_tokens=2048).astype(np.float64)
    for row, question in zip(rows, questions, strict=True):
        scores = (vectors @ question).astype(np.float32)
        best = sorted(range(len(ids)), key=lambda i: (-scores[i], ids[i]))[:4]
        assert [passage["passage_id"] for passage in row["passages"]] == [ids[i] for i in best]
        assert [passage["score"] for passage in row["passages"]] == [scores[i] for i in best]
        for passage in row["passages"]:
            stored = passages[passage["passage_id"]]
            assert {name: passage[name] for name in ("document_id", "title", "text")} == {
                name: stored[name] for name in ("document_id", "title", "text")
            }


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "rag_sequence", "decoding": "thorough", "num_beams": 2},
        {"model_type": "rag_sequence", "decoding": "fast", "num_beams": 3},
        {"model_type": "rag_sequence", "decoding": "fast", "num_beams": 2, "prune_mass": 0.4},
        {"model_type": "rag_token", "num_beams": 1},
        {"model_type": "rag_token", "decoding": "beam", "num_beams": 3, "num_candidates": 2},
    ],
    ids=["thorough", "fast", "pruned", "greedy", "beam"],
)
def test_answers_keep_the_whole_distribution(world: World, tmp_path: Path, options: dict[str, Any]) -> None:
    rag_beam(
        "generate",
        retrievals=world.made("retrievals"),
        model=world.generator,
        max_new_tokens=6,
        token_posteriors=True,
        output=tmp_path / "answers",
        **options,
    )
    table = read_table(tmp_path / "answers")
    assert table.schema.equals(TABLES["answers"])
    for row in table.to_pylist():
        scores = np.array([passage["score"] for passage in row["passages"]], dtype=np.float64)
        prior = np.array([passage["prior"] for passage in row["passages"]])
        posterior = np.array([passage["posterior"] for passage in row["passages"]])
        np.testing.assert_allclose(prior, np.exp(scores) / np.exp(scores).sum(), rtol=1e-9)
        assert prior.sum() == pytest.approx(1, abs=1e-12)
        assert posterior.sum() == pytest.approx(1, abs=1e-9)
        assert row["candidates"][0] == {"answer": row["answer"], "log_prob": row["log_prob"]}
        token_log_probs = [token["log_prob"] for token in row["tokens"]]
        token_posteriors = np.array([token["posterior"] for token in row["tokens"]])
        assert sum(token_log_probs) == pytest.approx(row["log_prob"], abs=1e-6)
        if options["model_type"] == "rag_token":
            np.testing.assert_allclose(posterior, token_posteriors.mean(axis=0), atol=1e-6)
            continue
        # an unscored document of Fast Decoding has no log-probability and no weight
        likelihood = np.array([-np.inf if p["log_prob"] is None else p["log_prob"] for p in row["passages"]])
        joint = prior * np.exp(likelihood)
        assert np.log(joint.sum()) == pytest.approx(row["log_prob"], abs=1e-9)
        np.testing.assert_allclose(posterior, joint / joint.sum(), atol=1e-9)
        np.testing.assert_allclose(token_posteriors[-1], posterior, atol=1e-6)
        assert row["answer_bound"] >= 0
        if "prune_mass" in options:
            assert 0 < prior[np.isneginf(likelihood)].sum() < 1
            assert row["answer_bound"] > 0
        if options["decoding"] == "thorough":
            assert row["answer_bound"] == 0
            assert np.isfinite(likelihood).all()
    counted = manifest_of(tmp_path / "answers").counts.extra
    assert (counted["pair_scorings"] > 0) == (options.get("decoding") == "thorough")
    assert counted["pair_scorings_saved"] >= 0


def test_a_label_is_the_marginal_over_documents(world: World, tmp_path: Path) -> None:
    rag_beam(
        "classify",
        retrievals=world.made("claim_retrievals"),
        model=world.generator,
        label_set=["SUPPORTS=yes", "REFUTES=no", "NOT ENOUGH INFO=unknown"],
        output=tmp_path / "labels",
    )
    table = read_table(tmp_path / "labels")
    assert table.schema.equals(TABLES["labels"])
    assert table.num_rows == 4
    for row in table.to_pylist():
        prior = np.array([passage["prior"] for passage in row["passages"]])
        by_passage = np.array([passage["label_probs"] for passage in row["passages"]])
        marginal = prior @ by_passage
        assert [entry["label"] for entry in row["label_probs"]] == ["SUPPORTS", "REFUTES", "NOT ENOUGH INFO"]
        found = np.array([entry["log_prob"] for entry in row["label_probs"]])
        np.testing.assert_allclose(found, np.log(marginal), atol=1e-9)
        probs = np.array([entry["prob"] for entry in row["label_probs"]])
        np.testing.assert_allclose(probs, marginal / marginal.sum(), atol=1e-12)
        chosen = int(probs.argmax())
        assert row["label"] == row["label_probs"][chosen]["label"]
        posterior = np.array([passage["posterior"] for passage in row["passages"]])
        np.testing.assert_allclose(posterior, prior * by_passage[:, chosen] / marginal[chosen], atol=1e-12)


def test_closed_book_answers_from_the_question_alone(world: World, tmp_path: Path) -> None:
    settings = {"model": world.generator, "model_type": "rag_token", "max_new_tokens": 4}
    rag_beam(
        "generate", retrievals=world.made("retrievals"), n_docs=0, output=tmp_path / "closed", **settings
    )
    rows = read_table(tmp_path / "closed").to_pylist()
    assert len(rows) == len(PLACES)
    assert all(row["passages"] == [] for row in rows)
    assert all(np.isfinite(row["log_prob"]) for row in rows)


def test_fewer_documents_are_the_first_ones(world: World, tmp_path: Path) -> None:
    settings = {"model": world.generator, "model_type": "rag_sequence", "max_new_tokens": 4}
    rag_beam("generate", retrievals=world.made("retrievals"), n_docs=2, output=tmp_path / "two", **settings)
    retrieved = read_table(world.made("retrievals")).to_pylist()
    for row, retrieval in zip(read_table(tmp_path / "two").to_pylist(), retrieved, strict=True):
        ids = [passage["passage_id"] for passage in row["passages"]]
        assert ids == [passage["passage_id"] for passage in retrieval["passages"]][:2]
        assert sum(passage["prior"] for passage in row["passages"]) == pytest.approx(1, abs=1e-12)


def test_a_row_without_passages_is_rejected(world: World, tmp_path: Path) -> None:
    retrievals = read_table(world.made("retrievals")).to_pylist()
    retrievals[3]["passages"] = []
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(retrievals, schema=TABLES["retrievals"]), tmp_path / "mine.parquet")
    rag_beam(
        "generate",
        retrievals=tmp_path / "mine.parquet",
        model=world.generator,
        model_type="rag_token",
        max_new_tokens=3,
        no_passage_texts=True,
        output=tmp_path / "answers",
    )
    [reject] = read_rejects(tmp_path / "answers")
    assert (reject["record_id"], reject["reason"], reject["position"]) == ("q3", "no_passages", 3)
    rows = read_table(tmp_path / "answers").to_pylist()
    assert len(rows) == len(PLACES) - 1
    assert all(passage["text"] is None for row in rows for passage in row["passages"])


def test_evaluate_scores_retrievals_and_exports_them(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    references = tmp_path / "references.jsonl"
    rows = read_table(world.made("retrievals")).to_pylist()
    # one question has its answer in its second passage, one has none, one has no prediction
    gold = [
        {"question_id": row["question_id"], "question": row["question"], "answers": ["nowhere"]}
        for row in rows
    ]
    gold[0]["answers"] = [rows[0]["passages"][1]["text"]]
    write_lines(references, [*gold, {"question_id": "extra", "question": "?", "answers": ["x"]}])
    rag_beam(
        "evaluate",
        predictions=world.made("retrievals"),
        references=references,
        metrics=["recall@1", "recall@4"],
        exports=["dpr_json", "kilt", "trec"],
        output=tmp_path / "scores",
    )
    scores = {row["metric"]: row for row in read_table(tmp_path / "scores").to_pylist()}
    assert scores["recall@1"]["value"] == 0
    assert scores["recall@4"]["value"] == pytest.approx(1 / 11)
    assert scores["recall@4"]["n"] == 11
    assert manifest_of(tmp_path / "scores").counts.extra["references_without_prediction"] == 1
    printed = capsys.readouterr().out
    assert "recall@4" in printed
    assert "1 references have no prediction" in printed
    contexts = json.loads((tmp_path / "scores" / "dpr_retrieval.json").read_text())
    assert [len(item["ctxs"]) for item in contexts] == [4] * len(PLACES)
    assert contexts[0]["ctxs"][1]["has_answer"] is True
    assert len((tmp_path / "scores" / "run.trec").read_text().splitlines()) == 4 * len(PLACES)
    assert len((tmp_path / "scores" / "kilt_predictions.jsonl").read_text().splitlines()) == len(PLACES)


def test_gold_documents_are_read_from_the_references(world: World, tmp_path: Path) -> None:
    rows = read_table(world.made("retrievals")).to_pylist()
    gold = [
        {
            "question_id": row["question_id"],
            "question": row["question"],
            "answers": ["x"],
            "gold_document_ids": [row["passages"][number % 4]["document_id"]],
        }
        for number, row in enumerate(rows)
    ]
    write_lines(tmp_path / "references.jsonl", gold)
    rag_beam(
        "evaluate",
        predictions=world.made("retrievals"),
        references=tmp_path / "references.jsonl",
        metrics=["document_recall@1", "document_recall@4", "r_precision"],
        output=tmp_path / "scores",
    )
    expected = score_retrievals(
        [
            [
                RetrievedPassage(p["passage_id"], p["document_id"], p["title"], p["text"])
                for p in row["passages"]
            ]
            for row in rows
        ],
        [Reference(("x",), tuple(item["gold_document_ids"])) for item in gold],
        metrics=["document_recall@1", "document_recall@4", "r_precision"],
    )
    found = {row["metric"]: row["value"] for row in read_table(tmp_path / "scores").to_pylist()}
    assert found == {score.metric: score.value for score in expected}
    assert found["document_recall@4"] == 1


def test_references_of_other_questions_are_refused(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_lines(tmp_path / "others.jsonl", [{"question_id": "z", "question": "?", "answers": ["x"]}])
    options = {"predictions": world.made("retrievals"), "references": tmp_path / "others.jsonl"}
    assert status_of("evaluate", output=tmp_path / "scores", **options) == 2
    assert "no question_id of it is among the 1 references" in capsys.readouterr().err


def test_retrievals_serve_as_questions_and_as_references(world: World, tmp_path: Path) -> None:
    """A data set of ours is its parts: its manifest is no question file."""
    rag_beam(
        "retrieve",
        index=world.made("index"),
        questions=world.made("retrievals"),
        encoder=world.question_encoder,
        n_docs=4,
        num_threads=1,
        output=tmp_path / "again",
    )
    assert read_table(tmp_path / "again").equals(read_table(world.made("retrievals")))
    rag_beam(
        "evaluate",
        predictions=tmp_path / "again",
        references=world.made("retrievals"),
        device="cpu",
        output=tmp_path / "scores",
    )
    assert {row["n"] for row in read_table(tmp_path / "scores").to_pylist()} == {len(PLACES)}
