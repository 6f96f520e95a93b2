"""Parquet of other makers: what is taken as a table of ours, and what is refused by name."""

import numpy as np
import pyarrow as pa
import pytest

from schemas import TABLES, SchemaError, conform, readable_schema
from schemas.embeddings import embeddings_schema

PATH = "theirs/file.parquet"

PASSAGE_ROW = {"passage_id": "a", "document_id": "d", "passage_number": 3, "title": "t", "text": "x y"}
RETRIEVED = {"passage_id": "p", "document_id": "d", "title": "t", "text": "x", "score": 1.5}
RETRIEVED_TYPE = pa.struct(
    [(name, pa.string()) for name in ("passage_id", "document_id", "title", "text")]
    + [("score", pa.float32())]
)


def passages(**columns: pa.Array) -> pa.RecordBatch:
    """One row of passages, some of its columns replaced (None: left away)."""
    arrays = {name: pa.array([value]) for name, value in PASSAGE_ROW.items()} | columns
    return pa.RecordBatch.from_pydict({name: array for name, array in arrays.items() if array is not None})


def questions(answers: pa.Array | None) -> pa.RecordBatch:
    columns = {"question_id": pa.array(["q"]), "question": pa.array(["why?"])}
    return pa.RecordBatch.from_pydict(columns | ({} if answers is None else {"answers": answers}))


def retrievals(type_: pa.DataType, passages_of_row: list) -> pa.RecordBatch:
    columns = {"question_id": pa.array(["q"]), "question": pa.array(["why?"])}
    return pa.RecordBatch.from_pydict(columns | {"passages": pa.array([passages_of_row], type_)})


def embeddings(vectors: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {"passage_id": pa.array([str(i) for i in range(len(vectors))]), "vector": vectors}
    )


def taken(batch: pa.RecordBatch, table: str) -> pa.RecordBatch:
    """The batch as the table, validated by Arrow in full."""
    result = conform(batch, readable_schema(batch.schema, TABLES[table], PATH), PATH)
    result.validate(full=True)
    return result


@pytest.mark.parametrize(
    "text",
    [
        pa.array(["x y"], pa.large_string()),
        pa.array(["x y"], pa.string_view()),
        pa.array(["x y"]).dictionary_encode(),
        pa.array(["x y"], pa.large_string()).dictionary_encode(),
    ],
    ids=lambda array: str(array.type),
)
def test_texts_of_any_arrow_kind_are_texts(text):
    result = taken(passages(text=text), "passages")
    assert result.schema.equals(TABLES["passages"])
    assert result.to_pylist() == [PASSAGE_ROW]


@pytest.mark.parametrize("type_", [pa.int8(), pa.uint16(), pa.int64(), pa.uint64()], ids=str)
def test_integers_of_any_width_are_integers(type_):
    assert taken(passages(passage_number=pa.array([3], type_)), "passages").to_pylist() == [PASSAGE_ROW]


def test_column_order_does_not_count_and_unknown_columns_are_left_away():
    batch = passages(url=pa.array(["https://example.org"]))
    reordered = batch.select(sorted(batch.schema.names, reverse=True))
    assert taken(reordered, "passages").to_pylist() == [PASSAGE_ROW]


def test_struct_fields_may_stand_in_another_order_with_others_between_them():
    theirs = pa.struct(
        [
            ("score", pa.float64()),
            ("rank", pa.int64()),
            ("text", pa.large_string()),
            ("title", pa.string_view()),
            ("document_id", pa.dictionary(pa.int32(), pa.string())),
            ("passage_id", pa.string()),
        ]
    )
    result = taken(retrievals(pa.large_list(theirs), [RETRIEVED | {"rank": 1}] * 2), "retrievals")
    assert result.column("passages").to_pylist() == [[RETRIEVED] * 2]
    assert result.schema.field("passages").type == TABLES["retrievals"].field("passages").type


def test_nullable_columns_may_be_absent_nested_ones_too():
    assert taken(questions(None), "questions").to_pylist() == [
        {"question_id": "q", "question": "why?", "answers": None}
    ]
    schema = TABLES["answers"]
    row = {
        "question_id": "q",
        "question": "why?",
        "answer": "so",
        "log_prob": -1.0,
        "finish_reason": "end",
        "candidates": [],
        "passages": [
            {
                "passage_id": "p",
                "document_id": "d",
                "title": "t",
                "score": 1.0,
                "prior": 1.0,
                "posterior": 1.0,
            }
        ],
        "answer_bound": 0.0,
    }
    result = conform(
        batch := pa.RecordBatch.from_pylist([row]), readable_schema(batch.schema, schema, PATH), PATH
    )
    assert result.column("passages")[0].as_py()[0]["text"] is None
    assert result.column("tokens").to_pylist() == [None]


@pytest.mark.parametrize(
    "answers, expected",
    [
        (pa.nulls(1), None),
        (pa.array([[]], pa.list_(pa.null())), []),
        (pa.array([["a", "b"]], pa.large_list(pa.string_view())), ["a", "b"]),
        (pa.array([["a", "b"]], pa.list_(pa.string(), 2)), ["a", "b"]),
        (pa.array([["a"]]).cast(pa.list_(pa.dictionary(pa.int32(), pa.string()))), ["a"]),
    ],
    ids=["no value at all", "empty lists", "large list of views", "fixed-size list", "dictionary items"],
)
def test_lists_of_any_kind_are_lists(answers, expected):
    assert taken(questions(answers), "questions").column("answers").to_pylist() == [expected]


@pytest.mark.parametrize(
    "theirs, ours",
    [
        (pa.list_(pa.float16(), 2), pa.list_(pa.float16(), 2)),
        (pa.list_(pa.float32(), 2), pa.list_(pa.float32(), 2)),
        (pa.list_(pa.float64(), 2), pa.list_(pa.float32(), 2)),
        (pa.list_(pa.field("element", pa.float32(), nullable=False), 2), pa.list_(pa.float32(), 2)),
    ],
    ids=str,
)
def test_vectors_keep_half_and_single_precision_and_their_length(theirs, ours):
    result = taken(embeddings(pa.array([[0.5, -2.0], [1.0, 3.0]], theirs)), "embeddings")
    assert result.schema.field("vector").type == ours
    assert result.column("vector").to_pylist() == [[0.5, -2.0], [1.0, 3.0]]


@pytest.mark.parametrize("theirs", [pa.list_(pa.float32()), pa.large_list(pa.float64())], ids=str)
def test_vectors_without_a_stated_length_are_lists_of_single_precision(theirs):
    result = taken(embeddings(pa.array([[0.5, -2.0]], theirs)), "embeddings")
    assert result.schema.field("vector").type.value_type == pa.float32()
    assert result.column("vector").to_pylist() == [[0.5, -2.0]]


def test_probabilities_in_fixed_size_lists_keep_double_precision():
    label_probs = pa.list_(pa.float64(), 2)
    target = readable_schema(
        pa.schema(
            [
                item.with_type(pa.list_(_with_field(item.type.value_type, "label_probs", label_probs)))
                if item.name == "passages"
                else item
                for item in TABLES["labels"]
            ]
        ),
        TABLES["labels"],
        PATH,
    )
    passage = target.field("passages").type.value_type
    assert passage.field("label_probs").type.value_type == pa.float64()


def _with_field(struct: pa.StructType, name: str, type_: pa.DataType) -> pa.StructType:
    fields = [struct.field(index) for index in range(struct.num_fields)]
    return pa.struct([item.with_type(type_) if item.name == name else item for item in fields])


@pytest.mark.parametrize(
    "batch, table, named",
    [
        (passages(text=None), "passages", ["no column 'text' (string)", "passage_number"]),
        (passages(text=pa.array([1])), "passages", ["'text' has type int64", "expected string"]),
        (passages(passage_number=pa.array(["1"])), "passages", ["'passage_number' has type string", "int32"]),
        (passages(passage_number=pa.array([1.0])), "passages", ["'passage_number' has type double"]),
        (questions(pa.array(["a"])), "questions", ["'answers' has type string"]),
        (questions(pa.array([[1]])), "questions", ["'answers' has type list<item: int64>"]),
        (embeddings(pa.array([[1, 2]], pa.list_(pa.int32(), 2))), "embeddings", ["'vector'", "int32"]),
        (
            retrievals(pa.list_(_with_field(RETRIEVED_TYPE, "score", pa.string())), []),
            "retrievals",
            ["'passages' has type", "score: string"],
        ),
        (
            retrievals(pa.list_(pa.struct([("passage_id", pa.string())])), []),
            "retrievals",
            ["'passages' has type", "expected list<"],
        ),
    ],
    ids=range(9),
)
def test_a_missing_or_mistyped_column_is_named_with_the_file(batch, table, named):
    with pytest.raises(SchemaError) as refusal:
        readable_schema(batch.schema, TABLES[table], PATH)
    for text in [PATH, *named]:
        assert text in str(refusal.value)


def test_a_number_that_does_not_fit_is_refused():
    with pytest.raises(SchemaError, match="'passage_number' cannot be read as int32") as refusal:
        taken(passages(passage_number=pa.array([2**40])), "passages")
    assert PATH in str(refusal.value)


@pytest.mark.parametrize(
    "batch, table, column",
    [
        (passages(text=pa.array([None], pa.string())), "passages", "'text'"),
        (passages(text=pa.nulls(1)), "passages", "'text'"),
        (questions(pa.array([["a", None]])), "questions", "'answers.answer'"),
        (retrievals(pa.list_(RETRIEVED_TYPE), [RETRIEVED, None]), "retrievals", "'passages.passage'"),
        (retrievals(pa.list_(RETRIEVED_TYPE), [RETRIEVED | {"text": None}]), "retrievals", "'text'"),
        (embeddings(pa.array([None], pa.list_(pa.float32(), 2))), "embeddings", "'vector'"),
        (embeddings(pa.array([[1.0, None]], pa.list_(pa.float32(), 2))), "embeddings", "'vector.value'"),
        (embeddings(pa.array([[1.0, None]], pa.list_(pa.float32()))), "embeddings", "'vector.value'"),
    ],
    ids=range(8),
)
def test_nulls_where_there_must_be_none_are_refused_at_any_depth(batch, table, column):
    with pytest.raises(SchemaError) as refusal:
        taken(batch, table)
    assert PATH in str(refusal.value)
    assert column in str(refusal.value)


def test_nulls_in_a_list_within_a_struct_are_refused():
    passage = {"passage_id": "p", "document_id": "d", "title": "t", "text": "x", "score": 1.0}
    passage |= {"prior": 1.0, "posterior": 1.0, "label_probs": [0.5, None]}
    row = {"question_id": "q", "question": "why?", "label": "yes", "label_probs": [], "passages": [passage]}
    with pytest.raises(SchemaError, match=r"'passages\.passage\.label_probs\.value' holds 1 nulls"):
        taken(pa.RecordBatch.from_pylist([row]), "labels")


def test_nulls_of_a_sliced_batch_are_judged_within_the_slice():
    batch = pa.concat_batches([questions(pa.array([["a", None]])), questions(pa.array([["b"]]))])
    assert taken(batch.slice(1), "questions").column("answers").to_pylist() == [["b"]]
    with pytest.raises(SchemaError):
        taken(batch.slice(0, 1), "questions")


def test_what_we_wrote_ourselves_passes_unchanged():
    schema = embeddings_schema(4, "float16")
    vectors = np.arange(12, dtype=np.float16).reshape(3, 4)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 4)
    batch = pa.RecordBatch.from_arrays(
        [pa.array(["a", "b", "c"]), column, pa.array([b"0123456789abcdef", None, None], pa.binary(16))],
        schema=schema,
    )
    result = taken(batch, "embeddings")
    assert result.column("vector").type == pa.list_(pa.float16(), 4)
    np.testing.assert_array_equal(result.column("vector").flatten().to_numpy(), vectors.reshape(-1))
