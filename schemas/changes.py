"""`changes`: which answers or labels became others between two runs, and because of which passages."""

import pyarrow as pa

from schemas.field import field, list_of

_PASSAGE = pa.struct(
    [
        field("passage_id", pa.string(), "the passage"),
        field("document_id", pa.string(), "its document"),
        field("title", pa.string(), "its title; of one that left, as it was"),
        field(
            "change",
            pa.string(),
            "came: was not among the question's passages; left: is not among them any more; text: its title or "
            "text is another; score: only its score is",
        ),
        field("text_before", pa.string(), "its words before; null where they were not kept", nullable=True),
        field("text_after", pa.string(), "its words after; null where they were not kept", nullable=True),
        field("rank_before", pa.int32(), "its place from 1; null where it came", nullable=True),
        field("rank_after", pa.int32(), "its place from 1; null where it left", nullable=True),
        field("score_before", pa.float32(), "its inner product; null where it came", nullable=True),
        field("score_after", pa.float32(), "its inner product; null where it left", nullable=True),
        field(
            "posterior_before",
            pa.float64(),
            "how much of the answer before was due to it; null where it came",
            nullable=True,
        ),
        field(
            "posterior_after",
            pa.float64(),
            "how much of the answer after is due to it; null where it left",
            nullable=True,
        ),
    ]
)

SCHEMA = pa.schema(
    [
        field("question_id", pa.string(), "the question or claim"),
        field("question", pa.string(), "its text; of one that is gone, as it was"),
        field(
            "question_before",
            pa.string(),
            "its text before, where the id stood for another; else null",
            nullable=True,
        ),
        field(
            "change",
            pa.string(),
            "new_answer: the answer or label is another; same_answer: it is the same, from passages that changed; "
            "new_question: was not asked before; gone_question: is not asked any more",
        ),
        field("answer_before", pa.string(), "the answer or label; null for a new question", nullable=True),
        field(
            "answer_after",
            pa.string(),
            "the answer or label; null for a question that is gone",
            nullable=True,
        ),
        field(
            "log_prob_before",
            pa.float64(),
            "log p(y|x) of the answer or label before, else null",
            nullable=True,
        ),
        field(
            "log_prob_after",
            pa.float64(),
            "log p(y|x) of the answer or label after, else null",
            nullable=True,
        ),
        field(
            "passages",
            list_of("passage", _PASSAGE),
            "those that are not what they were: of the row after in its order, then those that left; none for a "
            "question that is new or gone, or where another model answered from the same passages",
        ),
    ]
)
