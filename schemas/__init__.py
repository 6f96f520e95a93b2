"""The tables that stages meet through: one pyarrow schema a module, each field described.

`TABLES` maps a table's name to its schema; `conform` takes Parquet made elsewhere once its columns
and types fit. This package imports pyarrow only.
"""

import pyarrow as pa

from schemas import (
    answers,
    changes,
    embeddings,
    labels,
    passages,
    question_vectors,
    questions,
    rejects,
    retrievals,
    scores,
    search_results,
    training_history,
)
from schemas.conform import SchemaError, conform, readable_schema
from schemas.field import FORMAT_VERSION, describe

TABLES: dict[str, pa.Schema] = {
    "passages": passages.SCHEMA,
    "embeddings": embeddings.SCHEMA,
    "questions": questions.SCHEMA,
    "question_vectors": question_vectors.SCHEMA,
    "search_results": search_results.SCHEMA,
    "retrievals": retrievals.SCHEMA,
    "answers": answers.SCHEMA,
    "labels": labels.SCHEMA,
    "changes": changes.SCHEMA,
    "scores": scores.SCHEMA,
    "rejects": rejects.SCHEMA,
    "training_history": training_history.SCHEMA,
}

__all__ = ["FORMAT_VERSION", "TABLES", "SchemaError", "conform", "describe", "readable_schema"]
