"""`answers`: one generated answer a question, with the whole distribution over its passages."""

import pyarrow as pa

from schemas.field import field, list_of
from schemas.retrievals import PASSAGE_FIELDS, RETRIEVAL_HASH_FIELD, SCORE_FIELD

_CANDIDATE = pa.struct(
    [
        field("answer", pa.string(), "the candidate's text"),
        field("log_prob", pa.float64(), "log p(y|x) of the candidate"),
    ]
)
PASSAGE = pa.struct(
    [
        *PASSAGE_FIELDS[:-1],
        field("text", pa.string(), "the passage's words; null with --no_passage_texts", nullable=True),
        SCORE_FIELD,
        field("prior", pa.float64(), "p(z|x), softmax of the scores over the passages of the row"),
        field(
            "log_prob",
            pa.float64(),
            "log p(y|x,z); null where Fast Decoding or --prune_mass left it unscored",
            nullable=True,
        ),
        field(
            "posterior",
            pa.float64(),
            "RAG-Sequence: p(z|x,y), 0 where unscored; RAG-Token: mean over the tokens' posteriors",
        ),
    ]
)
TOKEN = pa.struct(
    [
        field("token", pa.string(), "decoded text of the token; the end token is last"),
        field("log_prob", pa.float64(), "log p of this token given x and the tokens before it"),
        field(
            "posterior", list_of("value", pa.float32()), "p(z|x, y up to this token), in the passages' order"
        ),
    ]
)

SCHEMA = pa.schema(
    [
        field("question_id", pa.string(), "the question"),
        field("question", pa.string(), "the question's text"),
        field("answer", pa.string(), "the generated answer"),
        field("log_prob", pa.float64(), "log p(y|x), end token included, whatever the length penalty"),
        field("finish_reason", pa.string(), "end: the model ended it; length: --max_new_tokens cut it"),
        field(
            "candidates", list_of("candidate", _CANDIDATE), "the best candidates, as the search orders them"
        ),
        field(
            "passages", list_of("passage", PASSAGE), "the passages it was generated from, best score first"
        ),
        field("tokens", list_of("token", TOKEN), "null without --token_posteriors", nullable=True),
        field("answer_bound", pa.float64(), "by how much log p(y|x) can exceed log_prob; 0 where exact"),
        RETRIEVAL_HASH_FIELD,
    ]
)
