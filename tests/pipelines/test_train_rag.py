"""`rag-beam train_rag` from outside: its variants, what it writes and refuses, and that it resumes exactly."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import DPRQuestionEncoder, RagSequenceForGeneration

from rag_core.training.run import TrainingRun
from schemas import TABLES
from tests.pipelines.commands import history_of, manifest_of, rag_beam, read_rejects, read_table, status_of
from tests.pipelines.conftest import World, write_lines


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six questions with answers, one with two of them, one with none."""
    rows = [
        {"question_id": f"q{number}", "question": f"What lies in district {number}?", "answers": ["Aranth"]}
        for number in range(5)
    ]
    rows.append({"question_id": "two", "question": "Which one?", "answers": ["Belmor", "Belmore"]})
    rows.append({"question_id": "none", "question": "Why?", "answers": []})
    path = tmp_path_factory.mktemp("questions") / "train.jsonl"
    write_lines(path, rows)
    return path


def options(world: World, output: Path, /, **changes: Any) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "model": world.generator,
        "model_type": "rag_sequence",
        "output": output,
        "n_docs": 2,
        "batch_questions": 2,
        "chunk_questions": 2,
        "epochs": 1,
        "learning_rate": 1e-3,
        "warmup_steps": 1,
        "validate_every": 2,
        "checkpoint_every": 1,
        "num_threads": 1,
        "max_target_tokens": 8,
    } | changes
    return {name: value for name, value in chosen.items() if value is not None}


def searched(world: World, questions: Path, output: Path, /, **changes: Any) -> dict[str, Any]:
    """End to end, with the index of the world's passages and the question encoder that belongs to it."""
    return options(
        world,
        output,
        **{
            "questions": questions,
            "validation": questions,
            "index": world.made("index"),
            "question_encoder": world.question_encoder,
        }
        | changes,
    )


@pytest.fixture(scope="module")
def trained(world: World, questions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "rag"
    rag_beam("train_rag", **searched(world, questions, output))
    return output


def test_the_output_is_a_rag_checkpoint_that_answers(trained: Path, world: World, tmp_path: Path) -> None:
    manifest = manifest_of(trained)
    assert manifest.table == "model"
    counts = manifest.counts.to_json()
    assert (counts["read"], counts["accepted"], counts["left_out"]) == (14, 12, {"no_answer": 2})
    history = read_table(trained).to_pylist()
    assert [row["step"] for row in history] == [0, 2, 3]  # seven pairs of question and answer
    assert {score["name"] for score in history[0]["scores"]} == {"loss", "exact_match"}
    assert {figure["name"] for figure in history[1]["figures"]} == {"prior_entropy", "distinct_passages"}
    model, report = RagSequenceForGeneration.from_pretrained(trained / "model", output_loading_info=True)
    assert not report["missing_keys"]
    assert model.config.n_docs == 2
    config = json.loads((trained / "model" / "config.json").read_text())
    index = manifest_of(world.made("index")).details["index"]
    assert config["passage_encoder_fingerprint"] == index["encoder"]["fingerprint"]
    rag_beam(
        "retrieve",
        index=world.made("index"),
        questions=world.questions,
        encoder=trained / "model",
        output=tmp_path / "retrievals",
        n_docs=2,
    )
    rag_beam(
        "generate",
        retrievals=tmp_path / "retrievals",
        model=trained / "model",
        model_type="rag_sequence",
        output=tmp_path / "answers",
        max_new_tokens=4,
    )
    assert read_table(tmp_path / "answers").num_rows == read_table(tmp_path / "retrievals").num_rows


def test_an_interrupted_run_goes_on_to_the_same_weights(
    trained: Path, world: World, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TrainingRun.step

    def interrupted(run: TrainingRun) -> Any:
        if run.steps_done == 2:
            raise KeyboardInterrupt
        return step(run)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            rag_beam("train_rag", **searched(world, questions, tmp_path / "rag"))
    assert not (tmp_path / "rag" / "manifest.json").exists()
    rag_beam("train_rag", **searched(world, questions, tmp_path / "rag"))
    assert history_of(tmp_path / "rag") == history_of(trained)
    assert manifest_of(tmp_path / "rag").details["files"] == manifest_of(trained).details["files"]


def test_muon_is_another_run_and_adamw_what_a_run_was_before_there_was_a_choice(
    trained: Path, world: World, questions: Path, tmp_path: Path
) -> None:
    rag_beam("train_rag", **searched(world, questions, tmp_path / "muon", optimizer="muon"))
    assert "optimizer" not in manifest_of(trained).settings
    assert manifest_of(tmp_path / "muon").settings["optimizer"] == "muon"
    first, second = history_of(trained)[:2], history_of(tmp_path / "muon")[:2]
    assert first[0] == second[0]  # before training
    assert first[1] != second[1]


def test_a_frozen_retriever_stays_and_the_generator_learns(
    world: World, questions: Path, tmp_path: Path
) -> None:
    rag_beam("train_rag", **searched(world, questions, tmp_path / "rag", freeze_retriever=True))
    saved = RagSequenceForGeneration.from_pretrained(tmp_path / "rag" / "model")
    before = RagSequenceForGeneration.from_pretrained(world.generator)
    encoder = DPRQuestionEncoder.from_pretrained(world.question_encoder)
    for name, weight in encoder.state_dict().items():
        assert (saved.rag.question_encoder.state_dict()[name] == weight).all(), name
    assert any(
        (saved.rag.generator.state_dict()[name] != weight).any()
        for name, weight in before.rag.generator.state_dict().items()
    )


def test_retrievals_bring_their_documents(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """BM25's, as any other: with the scores that are there. What has no passage is rejected, and told."""
    rag_beam(
        "retrieve",
        retriever="bm25",
        index=world.made("index"),
        questions=world.questions,
        output=tmp_path / "bm25",
        n_docs=3,
    )
    rag_beam("train_rag", **options(world, tmp_path / "rag", retrievals=tmp_path / "bm25"))
    assert manifest_of(tmp_path / "rag").counts.accepted == read_table(tmp_path / "bm25").num_rows
    assert (tmp_path / "rag" / "model" / "model.safetensors").is_file()
    empty = read_table(tmp_path / "bm25").to_pylist()
    for row in empty[:2]:
        row["passages"] = []
    pq.write_table(pa.Table.from_pylist(empty, schema=TABLES["retrievals"]), tmp_path / "holes.parquet")
    rag_beam("train_rag", **options(world, tmp_path / "holes", retrievals=tmp_path / "holes.parquet"))
    rejects = read_rejects(tmp_path / "holes")
    assert [(row["position"], row["reason"]) for row in rejects] == [(0, "no_passages"), (1, "no_passages")]
    assert "row 0 has no passages to train with" in rejects[0]["message"]


def test_closed_book_and_labels(world: World, questions: Path, tmp_path: Path) -> None:
    changes = {"questions": questions, "validation": questions, "n_docs": 0, "max_validation": 4}
    rag_beam("train_rag", **options(world, tmp_path / "closed", **changes))
    assert manifest_of(tmp_path / "closed").counts.to_json()["validation_questions"] == 4
    assert read_table(tmp_path / "closed").to_pylist()[1]["figures"] == []
    claims = tmp_path / "claims.jsonl"
    write_lines(
        claims,
        [
            {"question_id": f"c{number}", "question": f"Claim {number}.", "answers": [label]}
            for number, label in enumerate(["SUPPORTS", "REFUTES"] * 2)
        ],
    )
    labels = {
        "label_set": ["SUPPORTS=supported", "REFUTES=refuted"],
        "validation": claims,
        "best_by": "correct",
    }
    rag_beam("train_rag", **options(world, tmp_path / "labels", questions=claims, n_docs=0, **labels))
    last = read_table(tmp_path / "labels").to_pylist()[-1]
    assert {score["name"] for score in last["scores"]} == {"loss", "label_accuracy"}
    assert manifest_of(tmp_path / "labels").details["training"]["monitor"] == "label_accuracy"


def test_a_question_longer_than_the_generator_reads_is_rejected_before_training(
    world: World, tmp_path: Path
) -> None:
    rows = [
        {"question_id": f"q{number}", "question": "What? " * length, "answers": ["Aranth"]}
        for number, length in enumerate([1, 1, 600])
    ]
    write_lines(tmp_path / "questions.jsonl", rows)
    rag_beam(
        "train_rag", **options(world, tmp_path / "rag", questions=tmp_path / "questions.jsonl", n_docs=0)
    )
    [reject] = read_rejects(tmp_path / "rag")
    assert (reject["position"], reject["reason"], reject["record_id"]) == (2, "bad_field", "q2")
    assert "the generator reads at most 512" in reject["message"]


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"index": None}, "--questions need an --index to search, or --n_docs 0"),
        ({"n_docs": 0}, "--questions need an --index to search, or --n_docs 0"),
        ({"retrievals": "somewhere"}, "give --questions, or --retrievals in their place"),
        ({"questions": None}, "give --questions, or --retrievals in their place"),
        ({"label_set": ["A=", "B"]}, "--label_set"),
        ({"validation": "/nowhere.jsonl"}, "/nowhere.jsonl"),
    ],
)
def test_options_that_do_not_go_together(
    changes: dict[str, Any],
    told: str,
    world: World,
    questions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status_of("train_rag", **searched(world, questions, tmp_path / "rag", **changes)) == 2
    assert told in capsys.readouterr().err


def test_an_index_of_another_passage_encoder_is_refused(
    trained: Path, world: World, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = trained / "model" / "config.json"
    whole = config.read_text()
    config.write_text(json.dumps(json.loads(whole) | {"passage_encoder_fingerprint": "0" * 64}))
    changes = {"model": trained / "model", "question_encoder": None}
    status = status_of("train_rag", **searched(world, questions, tmp_path / "rag", **changes))
    config.write_text(whole)
    assert status == 2
    assert "belongs to the passage encoder 000000000000" in capsys.readouterr().err
