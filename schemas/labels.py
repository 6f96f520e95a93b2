"""`labels`: one label a claim, with probabilities over the label set, overall and by passage."""

import pyarrow as pa

from schemas.field import field, list_of
from schemas.retrievals import PASSAGE_FIELDS, RETRIEVAL_HASH_FIELD, SCORE_FIELD

_LABEL_PROB = pa.struct(
    [
        field("label", pa.string(), "the label"),
        field("prob", pa.float64(), "p(l|x), renormalised over the label set after marginalising"),
        field("log_prob", pa.float64(), "log p(l|x), not renormalised"),
    ]
)
PASSAGE = pa.struct(
    [
        *PASSAGE_FIELDS,
        SCORE_FIELD,
        field("prior", pa.float64(), "p(z|x), softmax of the scores over the passages of the row"),
        field("posterior", pa.float64(), "p(z|x,l) for the label chosen"),
        field("label_probs", list_of("value", pa.float64()), "p(l|x,z) in the order of --label_set"),
    ]
)

SCHEMA = pa.schema(
    [
        field("question_id", pa.string(), "the claim"),
        field("question", pa.string(), "the claim's text"),
        field("label", pa.string(), "the most probable label; of equals, the first of --label_set"),
        field("label_probs", list_of("label_prob", _LABEL_PROB), "every label of --label_set, in its order"),
        field("passages", list_of("passage", PASSAGE), "the passages it was decided from, best score first"),
        RETRIEVAL_HASH_FIELD,
    ]
)
