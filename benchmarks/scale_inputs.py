"""The inputs of the model of a large corpus's cost, each with where its value comes from."""

from dataclasses import dataclass

CORPORA = {"Wikipedia": 21_015_324, "a billion": 1_000_000_000}


@dataclass(frozen=True)
class Quantity:
    """An input of the model.

    Attributes:
      source: where the value comes from; "assumed" where it was not measured.
    """

    value: float
    unit: str
    source: str


INPUTS = {
    "questions": Quantity(100_000, "", "chosen"),
    "n_docs": Quantity(50, "passages a question", "chosen: retrieve's default"),
    "workers": Quantity(16, "machines", "chosen"),
    "cores": Quantity(16, "virtual cores a CPU machine", "profile cpu: n2-standard-16"),
    "network": Quantity(1e9, "bytes/s a machine", "assumed: between a machine and the store"),
    "dimension": Quantity(768, "", "BERT-base"),
    "passage_tokens": Quantity(140, "tokens", "README, How fast encoding is"),
    # rates of one core
    "chunk_rate": Quantity(
        17_500, "passages/s a core", "README, How fast chunking is: WikiExtractor, steady"
    ),
    "file_rate": Quantity(7_000, "passages/s a core", "README: Parquet to Parquet without a model"),
    "encode_rate": Quantity(4.7 / 2, "passages/s a core", "README: BERT-base, float32, 2 cores of an EPYC"),
    "search_rate": Quantity(102e9 / 2, "FLOP/s a core", "README, How fast search is: float32, 2 cores"),
    "generate_seconds": Quantity(
        2.8 * 2, "core-seconds a question", "README: RAG-Sequence, 10 passages, 4 beams"
    ),
    # one GPU: no measurement
    "gpu_peak": Quantity(121e12, "FLOP/s", "data sheet of the L4: bfloat16, dense"),
    "gpu_share": Quantity(0.4, "of the peak", "assumed"),
    "gpu_search_rate": Quantity(10e12, "FLOP/s", "assumed: a third of the L4's float32 peak"),
    "gpu_generate_speedup": Quantity(20, "cores that one GPU is worth in decoding", "assumed"),
    # bytes a row
    "passage_bytes": Quantity(266, "bytes", "measured, docs/scale.md"),
    "vector_bytes": Quantity(1_417, "bytes", "measured, docs/scale.md"),
    "stored_passage_bytes": Quantity(407, "bytes in an index", "measured, docs/scale.md"),
    "retrieval_bytes": Quantity(50 * 266, "bytes", "at most: the passages of a question as in their table"),
    "answer_bytes": Quantity(
        50 * 266 + 50 * 40, "bytes", "at most: as retrievals, and five numbers a passage"
    ),
    "corpus_bytes": Quantity(630, "bytes of text a passage", "measured, docs/scale.md"),
    # units and parts: the stages' defaults
    "rows_per_part": Quantity(50_000, "rows", "default of chunk"),
    "encode_unit": Quantity(2_000, "rows", "default of encode"),
    "shard_rows": Quantity(500_000, "rows", "default of index"),
    "question_unit": Quantity(10_000, "questions", "default of retrieve"),
    "question_block": Quantity(50_000, "questions", "default of retrieve"),
    "answer_unit": Quantity(256, "questions", "default of generate"),
    "chunk_unit_bytes": Quantity(1e9, "bytes of text a source", "chosen: files of the corpus"),
    "keys_per_bucket": Quantity(4_000_000, "ids", "pipelines/dataset/duplicates.py"),
}
