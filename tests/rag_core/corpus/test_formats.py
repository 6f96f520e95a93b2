"""Each format as its maker writes it."""

import gzip
import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rag_core.corpus import CORPUS_FORMATS, plan_sources
from rag_core.records import Document, Passage
from tests.rag_core.corpus.reading import STORAGE, read, reasons, write


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def decided(path: str) -> set[str]:
    return {source.format for source in plan_sources(STORAGE, [path], "auto")}


def test_dpr_tsv(tmp_path):
    content = 'id\ttext\ttitle\n1\t"Aaron (""Ahärön"") is"\tAaron\n7\t""mil"" domain\t"The ""x"""\n'
    path = write(tmp_path, "psgs.tsv.gz", gzip.compress(content.encode()))
    assert decided(path) == {"dpr_tsv"}
    assert read(path) == [
        Passage("1", "psgs:0", 0, "Aaron", 'Aaron ("Ahärön") is', 0),
        Passage("7", "psgs:1", 0, 'The "x"', '"mil" domain', 1),
    ]


def test_dpr_tsv_bad_rows(tmp_path):
    content = "id\ttext\ttitle\n1\tonly two\n\n2\t \tT\n\ttext\tT\n3\tno title\t\n4\ta\tb\tc\n"
    records = read(write(tmp_path, "p.tsv", content))
    assert reasons(records) == ["bad_row", "empty_line", "empty_document", "bad_field", "Passage", "bad_row"]
    assert records[4].title == ""
    assert "expected 3 columns, got 2" in records[0].message


def test_wikiextractor_blocks(tmp_path):
    content = (
        '<doc id="339" url="https://x?curid=339" title="Tom &amp; Jerry">\nTom &amp; Jerry\n\n'
        "First &lt;b&gt;.\n\nR&notable.\n\n</doc>\n\n"
        '<doc id="340" url="u" title="Empty">\nEmpty\n\n</doc>\n'
        '<doc id="341" url="u" title="B">\nNo title line.\n</doc>\n'
    )
    path = write(tmp_path, "wiki_00", content)
    assert decided(path) == {"wikiextractor"}
    records = read(path)
    assert reasons(records) == ["Document", "empty_document", "Document"]
    assert records[0] == Document("339", "Tom & Jerry", "First <b>.\n\nR&notable.", 0)
    assert records[2].text == "No title line."


def test_wikiextractor_json(tmp_path):
    path = write(tmp_path, "wiki_00", jsonl({"id": "1", "url": "u", "title": "A &amp; B", "text": "Text."}))
    assert decided(path) == {"wikiextractor"}
    assert read(path) == [Document("1", "A & B", "Text.", 0)]


def test_wikiextractor_damage(tmp_path):
    content = (
        b'<doc id="1" title="A">\n\xff\n</doc>\n<doc id="2" title="B">\nnever closed\n'
        b'<doc id="3" title="C">\nc\n</doc>\nstray\n<doc id="4" title="D">\ncut'
    )
    records = read(write(tmp_path, "wiki_00", content))
    assert reasons(records) == ["bad_encoding", "bad_row", "Document", "bad_row", "truncated_file"]


def test_kilt(tmp_path):
    row = {
        "wikipedia_id": "290",
        "wikipedia_title": "A",
        "text": ["A\n", "A is a letter.\n", "Section::::History.:Early years.\n", "BULLET::::- item\n", "\n"],
        "anchors": [],
    }
    path = write(tmp_path, "kilt.json", jsonl(row, {**row, "text": "a string"}))
    assert decided(path) == {"kilt"}
    records = read(path)
    assert reasons(records) == ["Document", "bad_field"]
    assert records[0] == Document("290", "A", "A is a letter.\nEarly years\nitem", 0)


def test_squad(tmp_path):
    articles = [
        {"title": "One", "paragraphs": [{"context": "a", "qas": []}, {"context": " ", "qas": []}]},
        {"title": "No paragraphs"},
        {"title": "Two", "paragraphs": [{"context": 'b "data": [', "qas": []}, "odd"]},
    ]
    for indent in (None, 2):
        path = write(tmp_path, "dev.json", json.dumps({"version": "1.1", "data": articles}, indent=indent))
        assert decided(path) == {"squad"}
        records = read(path)
        assert reasons(records) == ["Document", "empty_document", "bad_field", "Document", "bad_field"]
        assert records[0] == Document("dev:0", "One", "a", 0)
        assert records[3] == Document("dev:3", "Two", 'b "data": [', 3)


def test_squad_is_read_article_by_article(tmp_path):
    articles = [{"title": str(n), "paragraphs": [{"context": "ä" * 50_000}]} for n in range(60)]
    content = json.dumps({"data": articles}, ensure_ascii=False).encode()
    assert len(read(write(tmp_path, "s.json", content))) == 60
    cut = read(write(tmp_path, "s.json", content[: len(content) // 2]))
    assert reasons(cut) == ["Document"] * (len(cut) - 1) + ["truncated_file"]
    assert len(cut) - 1 in (29, 30)  # half of them


def test_fever_wiki_in_a_zip(tmp_path):
    page = {
        "id": "Soul_Food_-LRB-film-RRB-",
        "text": "Soul Food -LRB- 1997 -RRB- is a film . ",
        "lines": "0\tx",
    }
    path = str(tmp_path / "wiki-pages.zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("wiki-pages/wiki-001.jsonl", jsonl({"id": "", "text": "", "lines": ""}, page))
        archive.writestr("wiki-pages/wiki-002.jsonl", jsonl({**page, "id": "B"}))
    assert decided(path) == {"fever_wiki"}
    records = read(path)
    assert reasons(records) == ["empty_document", "Document", "Document"]
    assert records[1] == Document(
        "Soul_Food_-LRB-film-RRB-", "Soul Food (film)", "Soul Food ( 1997 ) is a film .", 1
    )


def test_jsonl(tmp_path):
    rows = [
        {"text": "no id", "title": None},
        {"id": 7, "title": "T", "text": "t"},
        {"_id": "beir", "text": "t"},
        {"document_id": "d", "passage_id": "p", "passage_number": 3, "title": "T", "text": "t"},
        {"passage_id": "q", "text": "t"},
    ]
    path = write(tmp_path, "c.jsonl", jsonl(*rows))
    assert decided(path) == {"jsonl"}
    assert read(path) == [
        Document("c:0", "", "no id", 0),
        Document("7", "T", "t", 1),
        Document("beir", "", "t", 2),
        Passage("p", "d", 3, "T", "t", 3),
        Passage("q", "c:4", 0, "", "t", 4),
    ]


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_csv_with_a_header(tmp_path, delimiter):
    lines = ["extra,title,text", '1,T,"several ""words"""', "2,,", "", "3,too few"]
    path = write(tmp_path, "c.csv", "\n".join(line.replace(",", delimiter) for line in lines))
    assert decided(path) == {"csv"}
    records = read(path)
    assert reasons(records) == ["Document", "empty_document", "empty_line", "bad_row"]
    assert records[0] == Document("c:0", "T", 'several "words"', 0)


def test_csv_with_passage_ids(tmp_path):
    path = write(tmp_path, "c.csv", "passage_id,passage_number,title,text\np1,2,T,t\np2,x,T,t\n")
    records = read(path)
    assert records[0] == Passage("p1", "c:0", 2, "T", "t", 0)
    assert reasons(records) == ["Passage", "bad_field"]


def test_titles_and_texts_without_a_header(tmp_path):
    path = write(tmp_path, "mine.csv", 'Aaron\tAaron ("Ahärön") is\n"Pokémon"\tPokémon , also\n')
    assert decided(path) == {"csv"}
    assert read(path) == [
        Document("mine:0", "Aaron", 'Aaron ("Ahärön") is', 0),
        Document("mine:1", "Pokémon", "Pokémon , also", 1),
    ]


def test_csv_without_text(tmp_path):
    assert reasons(read(write(tmp_path, "c.csv", "a,b,c\n1,2,3\n"), "csv")) == ["bad_row", "bad_row"]


def test_text(tmp_path):
    path = write(tmp_path, "My notes.v2.txt", b"\xef\xbb\xbfTwo\nlines, one text\tand a tab.\n")
    assert decided(path) == {"text"}
    assert read(path) == [Document("My notes:0", "My notes", "Two\nlines, one text\tand a tab.\n", 0)]
    assert reasons(read(write(tmp_path, "blank.txt", " \n"))) == ["empty_document"]


@pytest.mark.parametrize(
    "text_type", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
)
def test_parquet(tmp_path, text_type):
    table = pa.table(
        {"text": pa.array(["a", None, "c"], text_type), "title": ["A", "B", None], "n": [1, 2, 3]}
    )
    path = str(tmp_path / "c.parquet")
    pq.write_table(table, path, row_group_size=2)
    assert decided(path) == {"parquet"}
    records = read(path)
    assert reasons(records) == ["Document", "empty_document", "Document"]
    assert records[2] == Document("c:2", "", "c", 2)


def test_parquet_passages_keep_their_ids(tmp_path):
    path = str(tmp_path / "p.parquet")
    row = {"passage_id": "d#4", "document_id": "d", "passage_number": 4, "title": "T", "text": "t"}
    pq.write_table(pa.Table.from_pylist([row]), path)
    assert read(path) == [Passage("d#4", "d", 4, "T", "t", 0)]


def test_parquet_with_a_string_that_is_not_utf8(tmp_path):
    text = pa.array([b"a", b"\xff", b"c"], pa.binary()).cast(pa.string(), safe=False)
    path = str(tmp_path / "c.parquet")
    pq.write_table(pa.table({"text": text}), path)
    assert reasons(read(path)) == ["Document", "bad_encoding", "Document"]


def test_parquet_with_a_damaged_row_group(tmp_path):
    path = str(tmp_path / "c.parquet")
    texts = [f"text {n} " * 50 for n in range(4000)]
    pq.write_table(
        pa.table({"text": texts}), path, row_group_size=2000, use_dictionary=False, compression="zstd"
    )
    second = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data = bytearray((tmp_path / "c.parquet").read_bytes())
    data[second : second + 40] = b"\xff" * 40
    records = read(write(tmp_path, "c.parquet", bytes(data)))
    assert reasons(records) == ["Document"] * 2000 + ["truncated_file"]


def test_hf_dataset(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"title": ["A", "B"], "text": ["a", ""], "embeddings": [[1.0], [2.0]]})
    rows.save_to_disk(str(tmp_path / "corpus"))
    path = str(tmp_path / "corpus")
    assert decided(path) == {"hf_dataset"}
    records = read(path)
    assert reasons(records) == ["Document", "empty_document"]
    assert records[0] == Document("corpus:0", "A", "a", 0)


def test_every_format_has_a_reader():
    from rag_core.corpus.read import _READERS

    assert set(_READERS) == set(CORPUS_FORMATS)
