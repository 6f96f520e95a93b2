import bz2
import gzip
import pickle
import tracemalloc

import pytest

from rag_core.corpus import Source, files, multistream, plain_export, plan_sources, read_source
from rag_core.errors import UsageError
from tests.rag_core.corpus.reading import STORAGE, read, read_one, reasons, write

HEADER = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10" xml:lang="de">
  <siteinfo><namespaces>
    <namespace key="0" case="first-letter" />
    <namespace key="1" case="first-letter">Diskussion</namespace>
    <namespace key="6" case="first-letter">Datei</namespace>
  </namespaces></siteinfo>
"""
FOOTER = "</mediawiki>\n"


def page(
    number: int, text: str | None = None, title: str = "", ns: str = "<ns>0</ns>", extra: str = ""
) -> str:
    text = f"Text of page {number}." if text is None else text
    return (
        f"<page><title>{title or f'Page {number}'}</title>{ns}<id>{number}</id>{extra}"
        f"<revision><id>{number + 1000}</id><text xml:space='preserve'>{text}</text></revision></page>\n"
    )


def dump(*pages: str) -> bytes:
    return (HEADER + "".join(pages) + FOOTER).encode()


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress])
def test_pages_become_documents(tmp_path, compress):
    content = dump(page(12, "'''A''' &amp;amp; [[b]]&lt;ref&gt;c&lt;/ref&gt;", "Ä &amp; B"), page(25))
    first, second = read(write(tmp_path, "dump", compress(content)))
    assert (first.document_id, first.title, first.text) == ("12", "Ä & B", "A & b")
    assert (second.document_id, second.title, second.text) == ("25", "Page 25", "Text of page 25.")


def test_what_is_left_out(tmp_path):
    pages = [
        page(1, extra='<redirect title="Page 2" />'),
        page(2, "#redirect [[Page 3]]"),
        page(3, ns="<ns>10</ns>"),
        page(4, "{{only|a template}}"),
        page(5, ""),
        page(6).replace("<text xml:space='preserve'>Text of page 6.</text>", "<text deleted='deleted' />"),
        page(7, "[[Datei:A.jpg]]"),
    ]
    assert reasons(read(write(tmp_path, "d.xml", dump(*pages)))) == [
        "redirect",
        "redirect",
        "other_namespace",
        "empty_document",
        "empty_document",
        "empty_document",
        "empty_document",
    ]


def test_old_exports_tell_the_namespace_by_the_title(tmp_path):
    pages = [page(1, title="Diskussion:A", ns=""), page(2, title="Alien: Covenant", ns="")]
    assert reasons(read(write(tmp_path, "d.xml", dump(*pages)))) == ["other_namespace", "Document"]


def test_the_newest_of_several_revisions_counts(tmp_path):
    content = page(1).replace("<revision>", "<revision><text>old</text></revision><revision>", 1)
    (document,) = read(write(tmp_path, "d.xml", dump(content)))
    assert document.text == "Text of page 1."


def test_a_bad_page_costs_only_itself(tmp_path):
    content = dump(page(1), page(2, "bad byte"), page(3, "<b>not closed"), page(4, "&lol;"), page(5))
    records = read(write(tmp_path, "d.xml", content.replace(b"bad byte", b"\xff\xfe")))
    assert reasons(records) == ["Document", "bad_encoding", "bad_row", "bad_row", "Document"]
    assert "record 3" in records[3].message
    assert records[4].document_id == "5"


def test_entities_do_not_expand(tmp_path):
    bomb = b'<?xml version="1.0"?><!DOCTYPE m [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>\n'
    path = write(tmp_path, "d.xml", bomb + dump(page(1, "&b;"), page(2)))
    assert reasons(read(path, "wikipedia_xml")) == ["bad_row", "Document"]


def test_markup_that_cannot_be_parsed_is_rejected_with_its_page_id(tmp_path):
    records = read(write(tmp_path, "d.xml", dump(page(7, "[[" * 1000), page(8))))
    assert reasons(records) == ["bad_field", "Document"]
    assert records[0].record_id == "7"


@pytest.mark.parametrize("cut", [len(FOOTER) + 20, len(FOOTER)])
def test_a_cut_export(tmp_path, cut):
    records = read(write(tmp_path, "d.xml", dump(page(1), page(2), page(3))[:-cut]))
    whole = 3 if cut == len(FOOTER) else 2
    assert reasons(records) == ["Document"] * whole + ["truncated_file"]
    assert f"after {whole} records" in records[-1].message


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_a_cut_compressed_export(tmp_path, compress):
    compressed = compress(dump(page(1), page(2))) + compress(dump(page(3)))
    records = read(write(tmp_path, "d.xml.x", compressed[:-5]))
    assert reasons(records)[:2] == ["Document", "Document"]
    assert reasons(records)[-1] == "truncated_file"


def test_memory_is_bounded_by_a_page(tmp_path):
    path = write(
        tmp_path,
        "d.xml.gz",
        gzip.compress(dump(*[page(n, "#REDIRECT " + "word " * 2000) for n in range(800)])),
    )
    (source,) = plan_sources(STORAGE, [path], "auto")
    tracemalloc.start()
    count = sum(1 for _ in read_source(STORAGE, source))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 800
    assert peak < 2_000_000  # of 8 MB


def multistream_dump(folder, pages_per_stream: int = 3, streams: int = 7, index: bool = True) -> str:
    pieces, lines, number = [bz2.compress(HEADER.encode())], [], 0
    for _ in range(streams):
        offset = sum(map(len, pieces))
        pages = []
        for _ in range(pages_per_stream):
            text = "[[Datei:A.jpg]]" if number == 18 else None
            pages.append(page(number, text, extra="<redirect />" if number % 4 == 1 else ""))
            lines.append(f"{offset}:{number}:Page {number}: a title\n")
            number += 1
        pieces.append(bz2.compress("".join(pages).encode()))
    pieces.append(bz2.compress(FOOTER.encode()))
    if index:
        write(folder, "dewiki-multistream-index.txt.bz2", bz2.compress("".join(lines).encode()))
    return write(folder, "dewiki-multistream.xml.bz2", b"".join(pieces))


@pytest.mark.parametrize("streams_per_source", [1, 2, 3, 50])
def test_a_multistream_dump_reads_the_same_however_it_is_split(tmp_path, monkeypatch, streams_per_source):
    whole = read(multistream_dump(tmp_path / "plain", index=False))
    assert reasons(whole).count("Document") == 15
    monkeypatch.setattr(multistream, "STREAMS_PER_SOURCE", streams_per_source)
    path = multistream_dump(tmp_path / "indexed")
    sources = plan_sources(STORAGE, [path], "auto")
    assert len(sources) == -(-7 // streams_per_source)
    assert [record for source in sources for record in read_one(source)] == whole


def test_an_index_is_no_document_of_its_own(tmp_path):
    path = multistream_dump(tmp_path)
    sources = plan_sources(STORAGE, [f"{tmp_path}/*"], "auto")
    assert {source.path for source in sources} == {path}


def test_names_of_index_files(tmp_path):
    for dump_name, index_name in [
        ("enwiki-1-pages-articles-multistream.xml.bz2", "enwiki-1-pages-articles-multistream-index.txt.bz2"),
        ("a-multistream12.xml-p1p9.bz2", "a-multistream-index12.txt-p1p9.bz2"),
        ("b-multistream.xml.bz2", "b-multistream-index.txt"),
    ]:
        index = write(tmp_path, index_name, b"")
        assert multistream.index_path(STORAGE, str(tmp_path / dump_name)) == index
    assert multistream.index_path(STORAGE, str(tmp_path / "c-multistream.xml.bz2")) is None


def test_an_index_of_another_dump_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(multistream, "STREAMS_PER_SOURCE", 1)
    path = multistream_dump(tmp_path)
    write(tmp_path, "dewiki-multistream-index.txt.bz2", bz2.compress(b"5:1:a\n77:2:b\n"))
    with pytest.raises(UsageError, match="is not the index of"):
        plan_sources(STORAGE, [path], "auto")
    write(tmp_path, "dewiki-multistream-index.txt.bz2", bz2.compress(b"no number\n"))
    with pytest.raises(UsageError, match="expected lines 'offset:page id:title'"):
        plan_sources(STORAGE, [path], "auto")


def test_a_cut_multistream_dump(tmp_path, monkeypatch):
    monkeypatch.setattr(multistream, "STREAMS_PER_SOURCE", 2)
    path = multistream_dump(tmp_path)
    content = (tmp_path / "dewiki-multistream.xml.bz2").read_bytes()
    write(tmp_path, "dewiki-multistream.xml.bz2", content[: len(content) * 2 // 3])
    records = read(path)
    assert reasons(records)[-1] == "truncated_file"
    assert reasons(records).count("truncated_file") == 1
    assert reasons(records).count("Document") >= 6


@pytest.mark.parametrize("cut", [0, len(FOOTER), len(FOOTER) + 20])
@pytest.mark.parametrize("bytes_per_source", [1, 500, 1_000])
def test_a_plain_export_reads_the_same_however_it_is_split(tmp_path, monkeypatch, bytes_per_source, cut):
    pages = [page(n, extra="<redirect />" if n % 4 == 1 else "") for n in range(12)]
    pages[7] = page(7, "bad &lol; page")
    pages[8] = page(8, "[[Datei:A.jpg]]")  # only the header, before the first page, tells that it is a file
    content = dump(*pages)
    path = write(tmp_path, "d.xml", content[: len(content) - cut])
    whole = read(path)
    monkeypatch.setattr(plain_export, "BYTES_PER_SOURCE", bytes_per_source)
    monkeypatch.setattr(files, "BLOCK_BYTES", 100)  # many an end of a page spans two blocks
    sources = plan_sources(STORAGE, [path], "auto")
    assert len(sources) > 1
    assert [record for source in sources for record in read_one(source)] == whole


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_a_compressed_export_is_one_source(tmp_path, monkeypatch, compress):
    monkeypatch.setattr(plain_export, "BYTES_PER_SOURCE", 1)
    path = write(tmp_path, "d.xml.x", compress(dump(page(1), page(2))))
    assert plan_sources(STORAGE, [path], "auto") == [Source(path, "wikipedia_xml")]


def test_sources_are_small_to_send():
    source = Source("gs://bucket/enwiki.xml.bz2", "wikipedia_xml", byte_range=(1, 2), first_record=10**7)
    assert pickle.loads(pickle.dumps(source)) == source
    assert len(pickle.dumps(source)) < 300
