"""What training minimises, and how: DPR's bi-encoder objective and gradients for batches beyond memory."""

from rag_core.training.gradient_cache import Side, backward_by_chunks
from rag_core.training.in_batch import in_batch_nll, positive_ranks

__all__ = ["Side", "backward_by_chunks", "in_batch_nll", "positive_ranks"]
