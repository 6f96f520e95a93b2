"""What each of two processes runs: trains the tiny bi-encoder and writes the losses and scores it saw.

usage: two_processes.py QUESTION_ENCODER PASSAGE_ENCODER OUTPUT_FOLDER
"""

import dataclasses
import json
import sys
from pathlib import Path

import torch
from torch import nn

from rag_core.training.bi_encoder import BiEncoder
from rag_core.training.replicas import Replicas
from rag_core.training.retriever import RetrieverLearner, RetrieverTraining
from rag_core.training.run import TrainingRun, TrainingSettings
from tests.rag_core.training.test_retriever import QUESTIONS


def train(question_encoder: str, passage_encoder: str, replicas: Replicas) -> list[dict]:
    """A short run without dropout: what each step and each validation told, and the weights' sum."""
    bi_encoder = BiEncoder.load(question_encoder, passage_encoder, device=replicas.device)
    for part in bi_encoder.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0  # processes drop different numbers
    steps = RetrieverTraining(batch_questions=3, chunk_texts=2, hard_negatives=1, epochs=2)
    learner = RetrieverLearner(bi_encoder, QUESTIONS, steps, QUESTIONS[:5], replicas)
    settings = TrainingSettings(learning_rate=1e-3, warmup_steps=1, weight_decay=0.1, validate_every=3)
    run = TrainingRun(learner, settings, ("average_rank", "lower"), replicas)
    told = []
    while not run.done:
        told.append(run.step())
    with torch.no_grad():
        weights = sum(parameter.double().abs().sum().item() for parameter in bi_encoder.parameters())
    return [*told, *(row.scores for row in run.history), {"weights": weights}]


if __name__ == "__main__":
    torch.set_num_threads(1)
    replicas = Replicas.join("cpu")
    found = {"replica": dataclasses.astuple(replicas)[:2], "told": train(*sys.argv[1:3], replicas)}
    Path(sys.argv[3], f"{replicas.index}.json").write_text(json.dumps(found))
