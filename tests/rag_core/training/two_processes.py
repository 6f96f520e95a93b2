"""What each of two processes runs: trains a tiny model and writes the losses and scores it saw."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from rag_core.training.bi_encoder import BiEncoder
from rag_core.training.documents import SearchedDocuments
from rag_core.training.rag import RagLearner, RagTraining
from rag_core.training.rag_model import RagModel
from rag_core.training.replicas import Replicas
from rag_core.training.retriever import RetrieverLearner, RetrieverTraining
from rag_core.training.run import Direction, Learner, TrainingRun, TrainingSettings
from tests.rag_core.mips.small_index import open_index
from tests.rag_core.training.test_rag import questions
from tests.rag_core.training.test_retriever import QUESTIONS


def train_retriever(question_encoder: str, passage_encoder: str, replicas: Replicas) -> list[dict]:
    """Trains a bi-encoder; returns what each step and each validation told, and the weights' sum."""
    bi_encoder = BiEncoder.load(question_encoder, passage_encoder, device=replicas.device)
    steps = RetrieverTraining(batch_questions=3, chunk_texts=2, hard_negatives=1, epochs=2)
    learner = RetrieverLearner(bi_encoder, QUESTIONS, steps, QUESTIONS[:5], replicas)
    return _told(learner, ("average_rank", "lower"), replicas)


def train_rag(checkpoint: str, index_folder: str, replicas: Replicas) -> list[dict]:
    """Trains a RAG model end to end; returns the same, but for how varied each process's documents were."""
    model = RagModel.load(checkpoint, checkpoint, device=str(replicas.device))
    assert model.question_tower is not None
    manifest = json.loads(Path(index_folder, "index.json").read_text())
    documents = SearchedDocuments(model.question_tower, open_index(index_folder, manifest), 3)
    steps = RagTraining("rag_token", batch_questions=3, chunk_questions=2, epochs=2)
    learner = RagLearner(model, documents, questions(7), steps, questions(5), replicas=replicas)
    told = _told(learner, ("loss", "lower"), replicas)
    return [
        {name: value for name, value in figures.items() if name != "distinct_passages"} for figures in told
    ]


def _told(learner: Learner, monitor: tuple[str, Direction], replicas: Replicas) -> list[dict]:
    """A short run without dropout, of which processes would draw different numbers."""
    for part in learner.module.modules():
        for name in ("p", "dropout", "attention_dropout", "activation_dropout"):
            if isinstance(getattr(part, name, None), float):
                setattr(part, name, 0.0)
    settings = TrainingSettings(learning_rate=1e-3, warmup_steps=1, weight_decay=0.1, validate_every=3)
    run = TrainingRun(learner, settings, monitor, replicas)
    told = []
    while not run.done:
        told.append(run.step())
    with torch.no_grad():
        weights = sum(parameter.double().abs().sum().item() for parameter in learner.module.parameters())
    return [*told, *(row.scores for row in run.history), {"weights": weights}]


TRAINERS = {"retriever": train_retriever, "rag": train_rag}


def train(index: int, port: int, kind: str, output: str, arguments: Sequence[str]) -> None:
    """Trains as one of two processes, with what `torchrun` tells each; writes what it saw to OUTPUT/INDEX.json."""
    os.environ |= {"RANK": str(index), "LOCAL_RANK": str(index), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    replicas = Replicas.join("cpu")
    found = {"replica": dataclasses.astuple(replicas)[:2], "told": TRAINERS[kind](*arguments, replicas)}
    Path(output, f"{index}.json").write_text(json.dumps(found))
