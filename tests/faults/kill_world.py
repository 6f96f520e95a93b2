"""A small world for runs that are to be killed: inputs of which every stage makes at least 20 units."""

import itertools
import json
from pathlib import Path
from typing import Any

from tests.pipelines.conftest import PASSAGE_WORDS, PLACES, document_text, write_lines
from tests.rag_core.tiny_encoders import write_dpr_passage_encoder, write_dpr_question_encoder
from tests.rag_core.tiny_generators import save_rag_checkpoint

FILES = 24
"""Of the corpus, and of the questions: enough for 20 units of each stage."""

_DOCUMENTS_OF_A_FILE = 3
_QUESTIONS_OF_A_FILE = 2


def make_world(folder: str, files: int = FILES) -> None:
    """Writes inputs and models below a folder."""
    home = Path(folder)
    write_corpus(home / "corpus", files)
    _write_questions(home / "questions", files)
    _write_training_questions(home / "train.json", files)
    write_dpr_passage_encoder(home / "passage_encoder")
    write_dpr_question_encoder(home / "question_encoder")
    save_rag_checkpoint(home / "generator")


def write_corpus(folder: Path, files: int) -> None:
    """Files of two formats by turns, as small files of one format share a unit; some records are bad."""
    folder.mkdir(parents=True)
    numbers = itertools.count()
    for file in range(files):
        documents = [
            {"id": f"d{number}", "title": PLACES[number % len(PLACES)], "text": document_text(number)}
            for number in itertools.islice(numbers, _DOCUMENTS_OF_A_FILE)
        ]
        if file % 2:
            rows = [",".join(json.dumps(document[name]) for name in document) for document in documents]
            (folder / f"{file:02d}.csv").write_text("\n".join(["id,title,text", *rows, ""]))
        else:
            write_lines(folder / f"{file:02d}.jsonl", documents)
    with (folder / "00.jsonl").open("a") as first, (folder / f"{files - 2:02d}.jsonl").open("a") as late:
        first.write("no json\n")
        late.write(json.dumps({"id": "d1", "text": "the second of its id"}) + "\n")


def _write_questions(folder: Path, files: int) -> None:
    folder.mkdir()
    for file in range(files):
        rows: list[dict[str, Any]] = [
            {
                "question_id": f"q{number}",
                "question": f"Who founded the market of {PLACES[number % len(PLACES)]} in district {number}?",
                "answers": ["weavers"],
            }
            for number in range(file * _QUESTIONS_OF_A_FILE, (file + 1) * _QUESTIONS_OF_A_FILE)
        ]
        write_lines(folder / f"{file:02d}.jsonl", rows)
    with (folder / "00.jsonl").open("a") as file:
        file.write('{"question_id": "without"}\n')


def _write_training_questions(path: Path, files: int) -> None:
    """In DPR's format, each with the document that answers it."""
    rows = [
        {
            "question": f"Who founded the market in district {number}?",
            "answers": ["weavers"],
            "positive_ctxs": [{"title": PLACES[number % len(PLACES)], "text": document_text(number)}],
        }
        for number in range(files * _QUESTIONS_OF_A_FILE)
    ]
    path.write_text(json.dumps(rows))


def stages(world: Path, outputs: Path) -> dict[str, dict[str, Any]]:
    """The steps of the run by name: their stage and its options, but the output."""
    question_files = str(world / "questions" / "*.jsonl")
    made = {name: str(outputs / name) for name in ("passages", "embeddings", "index", "found", "answers")}
    return {
        "passages": {
            "stage": "chunk",
            "input": [str(world / "corpus" / "*")],
            "passage_words": PASSAGE_WORDS,
            "rows_per_part": 5,
        },
        "embeddings": {
            "stage": "encode",
            "passages": made["passages"],
            "encoder": str(world / "passage_encoder"),
            "unit_rows": 4,
        },
        "index": {
            "stage": "index",
            "embeddings": made["embeddings"],
            "passages": made["passages"],
            "shard_rows": 6,
        },
        "found": {
            "stage": "retrieve",
            "index": made["index"],
            "questions": question_files,
            "encoder": str(world / "question_encoder"),
            "n_docs": 4,
            "question_block": 2,
            "unit_rows": 2,
            "rows_per_part": 20,
        },
        "answers": {
            "stage": "generate",
            "retrievals": made["found"],
            "model": str(world / "generator"),
            "model_type": "rag_token",
            "n_docs": 2,
            "num_beams": 2,
            "max_new_tokens": 3,
            "unit_rows": 2,
            "rows_per_part": 15,
        },
        "labels": {
            "stage": "classify",
            "retrievals": made["found"],
            "model": str(world / "generator"),
            "n_docs": 2,
            "label_set": ["SUPPORTS=yes", "REFUTES=no"],
            "unit_rows": 2,
            "rows_per_part": 15,
        },
        "scores": {
            "stage": "evaluate",
            "predictions": made["answers"],
            "references": question_files,
            "exports": ["kilt"],
        },
    }


def beside_the_run(world: Path, outputs: Path, files: int) -> dict[str, dict[str, Any]]:
    """Steps that read what the run's have made: an approximate index, and the two train stages. As `stages`.

    Of a whole world trainings take 36 steps each, and the index has enough vectors to be trained on.
    """
    common = {
        "epochs": 3,
        "learning_rate": 1e-3,
        "warmup_steps": 3,
        "validate_every": 7,
        "max_validation": 6,
        "checkpoint_every": 3,
        "batch_questions": 4,
    }
    return {
        "approximate": {
            "stage": "index",
            "embeddings": str(outputs / "embeddings"),
            "passages": str(outputs / "passages"),
            "factory": "PCA8,HNSW8,RFlat" if files >= FILES else "HNSW8,RFlat",
            "shard_rows": 6,
        },
        "retriever": {
            "stage": "train_retriever",
            "questions": [str(world / "train.json")],
            "validation": [str(world / "train.json")],
            "question_encoder": str(world / "question_encoder"),
            "passage_encoder": str(world / "passage_encoder"),
            **common,
        },
        "rag": {
            "stage": "train_rag",
            "questions": [str(world / "questions" / "*.jsonl")],
            "validation": [str(world / "questions" / "*.jsonl")],
            "index": str(outputs / "index"),
            "model": str(world / "generator"),
            "question_encoder": str(world / "question_encoder"),
            "model_type": "rag_sequence",
            "n_docs": 2,
            "max_target_tokens": 6,
            **common,
        },
    }
