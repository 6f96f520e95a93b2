"""What bad records get, in the formats of one record a line."""

import gzip
import json

import pytest

from tests.rag_core.corpus.reading import read, reasons, write

GOOD = b'{"text": "fine"}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "empty_line"),
        (b"  \t", "empty_line"),
        (b'{"text": "  "}', "empty_document"),
        (b'{"text": null}', "empty_document"),
        (b'{"text": "a\xff"}', "bad_encoding"),
        (b'{"text": "a\0"}', "bad_encoding"),
        (b'{"text": "\\ud800"}', "bad_encoding"),
        (b'{"text": "a"', "bad_json"),
        (b"plain words", "bad_json"),
        (b'["text"]', "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b'{"text": ' + b"9" * 5000 + b"}", "bad_json"),
        (b'{"title": "no text"}', "bad_field"),
        (b'{"text": 5}', "bad_field"),
        (b'{"text": "a", "title": ["T"]}', "bad_field"),
        (b'{"text": "a", "id": 1.5}', "bad_field"),
        (b'{"text": "a", "id": true}', "bad_field"),
        (b'{"text": "a", "passage_id": "p", "passage_number": -1}', "bad_field"),
        (b"{}", "bad_field"),
    ],
)
def test_a_bad_line_costs_only_itself(tmp_path, line, reason):
    path = write(tmp_path, "c.jsonl", b"\n".join([GOOD, line, GOOD, b""]))
    records = read(path)
    assert reasons(records) == ["Document", reason, "Document"]
    if reason.startswith("bad"):
        assert records[1].source == path
        assert records[1].position == 1
        assert records[1].message.startswith(f"{path}, record 1: ")
        assert len(records[1].excerpt) <= 200
        (records[1].message + records[1].excerpt).encode()


def test_surrogate_pairs_are_characters(tmp_path):
    (record,) = read(write(tmp_path, "c.jsonl", b'{"text": "\\ud83d\\ude00"}\n'))
    assert record.text == "😀"


def test_a_line_of_ten_megabytes(tmp_path):
    text = "x" * 10_000_000
    first, second = read(write(tmp_path, "c.jsonl", json.dumps({"text": text}) + "\n" + GOOD.decode()))
    assert first.text == text
    assert second.text == "fine"


def test_a_cut_gzip_file_keeps_whole_lines(tmp_path):
    lines = [json.dumps({"text": f"text number {n * n % 9973}"}) for n in range(20_000)]
    compressed = gzip.compress("\n".join(lines).encode())
    records = read(write(tmp_path, "c.jsonl.gz", compressed[: len(compressed) // 2]))
    assert reasons(records[:-1]) == ["Document"] * (len(records) - 1)
    assert 5_000 < len(records) < 15_000
    last = records[-1]
    assert last.reason == "truncated_file"
    assert last.position == len(records) - 1
    assert f"after {last.position} records" in last.message
    assert "decompressed bytes" in last.message


def test_ids_follow_the_record_not_what_became_of_the_others(tmp_path):
    content = b"\n".join([GOOD, b"", b"bad", GOOD])
    documents = [record for record in read(write(tmp_path, "a.b.jsonl", content)) if hasattr(record, "text")]
    assert [document.document_id for document in documents] == ["a:0", "a:3"]
