"""Which formats questions may have."""

from rag_core.corpus.source import Source

QUESTION_FORMATS: tuple[str, ...] = (
    "jsonl",
    "dpr_qas",
    "curatedtrec",
    "kilt",
    "squad",
    "fever",
    "csv",
    "parquet",
    "hf_dataset",
)

# A unit of reading: one file, or a member of a zip archive; `format` is one of `QUESTION_FORMATS`.
QuestionSource = Source
