import bz2
import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rag_core.corpus import CORPUS_FORMATS, plan_sources
from rag_core.errors import UsageError
from tests.rag_core.corpus.reading import STORAGE, read, write

LINE = '{"text": "a"}\n'


def paths_of(patterns, folder) -> list[str]:
    return [source.path.removeprefix(f"{folder}/") for source in plan_sources(STORAGE, patterns, "auto")]


def test_patterns_in_the_order_given_each_sorted_and_no_file_twice(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "c.jsonl", "sub/d.jsonl", "sub/.hidden"):
        write(tmp_path, name, LINE)
    assert paths_of([f"{tmp_path}/c*", f"{tmp_path}/*.jsonl"], tmp_path) == ["c.jsonl", "a.jsonl", "b.jsonl"]
    assert paths_of([f"{tmp_path}/sub", f"{tmp_path}/a.jsonl"], tmp_path) == ["sub/d.jsonl", "a.jsonl"]


def test_nothing_matches(tmp_path):
    write(tmp_path, "a.jsonl", LINE)
    with pytest.raises(UsageError, match=r"no\*such.*no file matches"):
        plan_sources(STORAGE, [f"{tmp_path}/a.jsonl", f"{tmp_path}/no*such"], "auto")


@pytest.mark.parametrize("input_format", ["auto", "jsonl", "wikipedia_xml"])
@pytest.mark.parametrize(
    "content", [b"", gzip.compress(b"", mtime=0), bz2.compress(b""), gzip.compress(b"x", mtime=0)[:5]]
)
def test_an_empty_file(tmp_path, content, input_format):
    path = write(tmp_path, "nothing", content)
    with pytest.raises(UsageError, match="nothing"):
        plan_sources(STORAGE, [path], input_format)


@pytest.mark.parametrize(
    "content", [b"\x00\x01\x02", b'{"question": "no text"}', b"\xff\xfea\x00", b'[{"text": 1}]']
)
def test_auto_lists_what_it_tried(tmp_path, content):
    with pytest.raises(UsageError) as caught:
        plan_sources(STORAGE, [write(tmp_path, "odd.file", content)], "auto")
    for name in (*CORPUS_FORMATS, "odd.file", "--input_format"):
        assert name in str(caught.value) or name == "hf_dataset"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<mediawiki/>", "wikipedia_xml"),
        ('<?xml version="1.0"?>\n<mediawiki xml:lang="en">', "wikipedia_xml"),
        ('\n<doc id="1" title="T">\n', "wikiextractor"),
        ("id\ttext\ttitle\r\n", "dpr_tsv"),
        ("title,text\n", "csv"),
        ("not json\n" + LINE, "jsonl"),
        ('{"cut\n' + LINE, "jsonl"),
        ("[[a wiki link]] and words", "text"),
        ("{{a template}} and words", "text"),
        ("a line with one\ttab\nand one with none", "text"),
        ('{"text": "' + "x" * 200_000 + '"}\n', "jsonl"),
        ("é" * 100_000, "text"),
    ],
)
def test_auto_decides_by_content(tmp_path, content, expected):
    for compress in (bytes, gzip.compress):
        (source,) = plan_sources(STORAGE, [write(tmp_path, "no-suffix", compress(content.encode()))], "auto")
        assert source.format == expected


def test_a_given_format_is_taken_at_its_word(tmp_path):
    (source,) = plan_sources(STORAGE, [write(tmp_path, "a", LINE)], "text")
    assert source.format == "text"
    with pytest.raises(UsageError, match="expected auto, wikipedia_xml"):
        plan_sources(STORAGE, [source.path], "xml")


def test_a_parquet_file_without_text(tmp_path):
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"body": ["x"]}), path)
    with pytest.raises(UsageError, match=r"a\.parquet.*column text, found body"):
        plan_sources(STORAGE, [path], "auto")
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        plan_sources(STORAGE, [write(tmp_path, "b.parquet", b"PAR1 and no more")], "auto")


def test_a_broken_archive(tmp_path):
    with pytest.raises(UsageError, match=r"a\.zip"):
        plan_sources(STORAGE, [write(tmp_path, "a.zip", b"PK\x03\x04 and no more")], "auto")


def test_a_dataset_of_several_splits(tmp_path):
    write(tmp_path, "set/dataset_dict.json", "{}")
    with pytest.raises(UsageError, match="several splits"):
        plan_sources(STORAGE, [f"{tmp_path}/set"], "auto")


def test_dataset_names_are_checked_before_anything_is_fetched():
    with pytest.raises(UsageError, match="NAME:CONFIG:SPLIT"):
        read("a:b:c:d", "hf_dataset")
