"""Question and passage encoders: DPR, Hugging Face RAG checkpoints, sentence-transformers folders."""

from rag_core.encoders.encoder import EncoderKind, PassageEncoder, QuestionEncoder
from rag_core.encoders.loading import PASSAGE_ENCODER_KEY, load_passage_encoder, load_question_encoder

__all__ = [
    "PASSAGE_ENCODER_KEY",
    "EncoderKind",
    "PassageEncoder",
    "QuestionEncoder",
    "load_passage_encoder",
    "load_question_encoder",
]
