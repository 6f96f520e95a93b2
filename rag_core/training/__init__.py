"""What training minimises: DPR's bi-encoder objective, by chunks whatever the batch, and RAG's −log p(y|x)."""

from rag_core.training.examples import TrainingQuestion, mine_hard_negatives, read_dpr_training
from rag_core.training.gradient_cache import Side, backward_by_chunks
from rag_core.training.in_batch import in_batch_nll, positive_ranks
from rag_core.training.rag_loss import Abstention, RagExample, document_scores, rag_nll

__all__ = [
    "Abstention",
    "RagExample",
    "Side",
    "TrainingQuestion",
    "backward_by_chunks",
    "document_scores",
    "in_batch_nll",
    "mine_hard_negatives",
    "positive_ranks",
    "rag_nll",
    "read_dpr_training",
]
