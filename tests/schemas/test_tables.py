"""The tables against the contract, column by column: name, type, nullability."""

import pickle

import pyarrow as pa
import pytest

from schemas import TABLES, describe
from schemas.embeddings import embeddings_schema
from schemas.question_vectors import question_vectors_schema

# The contract's tables, written out by hand: "?" marks a nullable column, lists and structs are
# nested. Items of lists are never null.
_PASSAGE = {"passage_id": "string", "document_id": "string", "title": "string", "text": "string"}
_QUESTION = {"question_id": "string", "question": "string"}
CONTRACT = {
    "passages": {
        "passage_id": "string",
        "document_id": "string",
        "passage_number": "int32",
        "title": "string",
        "text": "string",
    },
    "embeddings": {"passage_id": "string", "vector": ["float"], "content_hash?": "fixed_size_binary[16]"},
    "questions": _QUESTION | {"answers?": ["string"]},
    "question_vectors": _QUESTION | {"answers?": ["string"], "vector": ["float"]},
    "search_results": {"rows": ["int64"], "scores": ["float"]},
    "retrievals": _QUESTION | {"answers?": ["string"], "passages": [_PASSAGE | {"score": "float"}]},
    "answers": _QUESTION
    | {
        "answer": "string",
        "log_prob": "double",
        "finish_reason": "string",
        "candidates": [{"answer": "string", "log_prob": "double"}],
        "passages": [
            {
                "passage_id": "string",
                "document_id": "string",
                "title": "string",
                "text?": "string",
                "score": "float",
                "prior": "double",
                "log_prob?": "double",
                "posterior": "double",
            }
        ],
        "tokens?": [{"token": "string", "log_prob": "double", "posterior": ["float"]}],
        "answer_bound": "double",
        "retrieval_hash?": "fixed_size_binary[16]",
    },
    "labels": _QUESTION
    | {
        "label": "string",
        "label_probs": [{"label": "string", "prob": "double", "log_prob": "double"}],
        "passages": [
            _PASSAGE | {"score": "float", "prior": "double", "posterior": "double", "label_probs": ["double"]}
        ],
        "retrieval_hash?": "fixed_size_binary[16]",
    },
    "changes": _QUESTION
    | {
        "question_before?": "string",
        "change": "string",
        "answer_before?": "string",
        "answer_after?": "string",
        "log_prob_before?": "double",
        "log_prob_after?": "double",
        "passages": [
            {
                "passage_id": "string",
                "document_id": "string",
                "title": "string",
                "change": "string",
                "text_before?": "string",
                "text_after?": "string",
                "rank_before?": "int32",
                "rank_after?": "int32",
                "score_before?": "float",
                "score_after?": "float",
                "posterior_before?": "double",
                "posterior_after?": "double",
            }
        ],
    },
    "scores": {
        "metric": "string",
        "value": "double",
        "n": "int64",
        "ci_low": "double",
        "ci_high": "double",
        "slice?": "string",
    },
    "rejects": {
        "stage": "string",
        "source": "string",
        "position": "int64",
        "record_id?": "string",
        "reason": "string",
        "message": "string",
        "excerpt": "string",
    },
    "training_history": {
        "step": "int64",
        "loss?": "double",
        "learning_rate": "double",
        "gradient_norm?": "double",
        "figures": [{"name": "string", "value": "double"}],
        "scores": [{"name": "string", "value": "double"}],
        "best": "bool",
        "seconds": "double",
    },
}


def written_out(type_: pa.DataType):
    """A type in the notation of CONTRACT."""
    if pa.types.is_list(type_):
        assert not type_.value_field.nullable, f"items of {type_} may be null"
        return [written_out(type_.value_type)]
    if pa.types.is_struct(type_):
        return columns([type_.field(index) for index in range(type_.num_fields)])
    return str(type_)


def columns(fields) -> dict:
    return {item.name + "?" * item.nullable: written_out(item.type) for item in fields}


def test_there_are_the_tables_of_the_contract_and_no_others():
    assert set(TABLES) == set(CONTRACT)


@pytest.mark.parametrize("table", CONTRACT)
def test_columns_are_the_contracts_in_name_type_order_and_nullability(table):
    expected = CONTRACT[table]
    assert columns(TABLES[table]) == expected
    assert list(columns(TABLES[table])) == list(expected)


@pytest.mark.parametrize("table", CONTRACT)
def test_every_column_is_described_nested_ones_too(table):
    def undescribed(fields, prefix=""):
        for item in fields:
            if not (item.metadata or {}).get(b"description", b"").strip():
                yield prefix + item.name
            inner = item.type.value_type if pa.types.is_list(item.type) else item.type
            if pa.types.is_struct(inner):
                nested = [inner.field(index) for index in range(inner.num_fields)]
                yield from undescribed(nested, f"{prefix}{item.name}.")

    assert list(undescribed(TABLES[table])) == []


@pytest.mark.parametrize("vector_dtype, value_type", [("float16", pa.float16()), ("float32", pa.float32())])
def test_embeddings_of_a_data_set_have_one_length_and_precision(vector_dtype, value_type):
    schema = embeddings_schema(7, vector_dtype)
    assert schema.names == TABLES["embeddings"].names
    assert schema.field("vector").type == pa.list_(value_type, 7)
    assert not schema.field("vector").nullable


def test_embeddings_of_another_precision_are_refused():
    with pytest.raises(KeyError):
        embeddings_schema(7, "float64")


def test_question_vectors_have_one_length():
    schema = question_vectors_schema(3)
    assert schema.names == TABLES["question_vectors"].names
    assert schema.field("vector").type == pa.list_(pa.float32(), 3)


@pytest.mark.parametrize(
    "schema", [*TABLES.values(), embeddings_schema(4, "float16"), question_vectors_schema(4)]
)
def test_schemas_survive_the_way_to_a_worker(schema):
    assert pickle.loads(pickle.dumps(schema)).equals(schema)


def test_describe_lists_nested_columns_with_dotted_names():
    rows = {name: (type_, text) for name, type_, text in describe(TABLES["answers"])}
    assert rows["answer"] == ("string", "the generated answer")
    assert rows["passages"][0] == "list<struct>"
    assert rows["passages.posterior"][0] == "double"
    assert "Fast Decoding" in rows["passages.log_prob"][1]
    assert rows["tokens.posterior"][0] == "list<value: float>"
