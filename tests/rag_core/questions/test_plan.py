import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rag_core.errors import UsageError
from rag_core.questions import QUESTION_FORMATS, plan_question_sources
from tests.rag_core.corpus.reading import write
from tests.rag_core.questions.reading import STORAGE


@pytest.mark.parametrize(
    ("content", "questions_format"),
    [
        (b"", "auto"),
        (gzip.compress(b"", mtime=0), "jsonl"),
        (b"\n \n", "jsonl"),
        (b"question,answer\n", "auto"),
        (b"question,answer\n\n\n", "csv"),
        (b'{"version": "1.1", "data": []}', "squad"),
        (b"\n", "dpr_qas"),
    ],
)
def test_a_file_without_rows(tmp_path, content, questions_format):
    path = write(tmp_path, "questions.x", content)
    with pytest.raises(UsageError, match=r"questions\.x: .*(no rows|empty|nothing)"):
        plan_question_sources(STORAGE, [path], questions_format)


def test_a_parquet_file_without_rows_or_questions(tmp_path):
    path = str(tmp_path / "q.parquet")
    pq.write_table(pa.table({"question": pa.array([], pa.string())}), path)
    with pytest.raises(UsageError, match="no rows"):
        plan_question_sources(STORAGE, [path], "auto")
    pq.write_table(pa.table({"text": ["a"]}), path)
    with pytest.raises(UsageError, match="expected a column question or claim or input, found text"):
        plan_question_sources(STORAGE, [path], "auto")


def test_auto_lists_what_it_tried(tmp_path):
    with pytest.raises(UsageError) as caught:
        plan_question_sources(STORAGE, [write(tmp_path, "odd", "just words\n")], "auto")
    for name in ({*QUESTION_FORMATS} - {"curatedtrec", "hf_dataset"}) | {"--questions_format", "odd"}:
        assert name in str(caught.value)


def test_nothing_matches(tmp_path):
    with pytest.raises(UsageError, match="no file matches"):
        plan_question_sources(STORAGE, [f"{tmp_path}/none*"], "auto")


def test_files_of_several_formats(tmp_path):
    write(tmp_path, "a.jsonl", '{"question": "q"}\n')
    write(tmp_path, "b.tsv", "q\t['a']\n")
    sources = plan_question_sources(STORAGE, [f"{tmp_path}/*"], "auto")
    assert [source.format for source in sources] == ["jsonl", "dpr_qas"]
