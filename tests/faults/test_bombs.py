"""Small files that unfold to huge ones, and records nested without end: bounded in memory, never endless.

Each is read in a process of its own, whose growth is measured; one that hangs is ended with its stack.
"""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rag_core import parquet_batches
from rag_core.corpus import files, json_list, plan_sources, text, wikipedia_xml
from rag_core.errors import UsageError
from tests.faults.examined_reading import Examined, examine
from tests.faults.seed_files import FORMATS, seeds
from tests.faults.watchdog import peak_bytes
from tests.rag_core.corpus.reading import STORAGE

MEGABYTE = 1 << 20
SMALL_RECORD = 4 * MEGABYTE
"""Stands for the 256 MiB that a record may have, so that a bomb for it is small."""

# a file's first line is looked at up to 16 MiB, in a few copies
SMALL_GROWTH = 128 * MEGABYTE
DAY = 1 << 40
"""More bytes than any of these tests reads."""

BY_LINES = [("corpus", name) for name in ("wikiextractor", "dpr_tsv", "kilt", "fever_wiki", "jsonl", "csv")]
BY_LINES += [("questions", name) for name in ("jsonl", "dpr_qas", "curatedtrec", "kilt", "fever", "csv")]
UNFOLDING = {
    ("corpus", "text"): b"",
    ("corpus", "wikipedia_xml"): b"<mediawiki><page><title>",
    ("corpus", "squad"): b'{"data": [{"title": "',
    ("questions", "squad"): b'{"data": [{"title": "',
    ("training", "squad"): b'{"data": [{"title": "',
    ("training", "dpr_training"): b'[{"question": "',
} | dict.fromkeys(BY_LINES, b"")


@pytest.fixture
def small_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lowers the most bytes that a record may have."""
    for module in (files, json_list, text, wikipedia_xml):
        monkeypatch.setattr(module, "MAX_RECORD_BYTES", SMALL_RECORD)


def zipped(content: bytes, name: str = "member") -> bytes:
    """An archive of one file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def zst(size: int) -> bytes:
    """A zstd frame of blocks that each repeat one byte 128 KiB times: 4 bytes of it for each."""
    block = 1 << 17
    header = b"\x28\xb5\x2f\xfd" + bytes([0xC0 | 0x20]) + size.to_bytes(8, "little")
    blocks = [((block << 3) | (1 << 1)).to_bytes(3, "little") + b"x"] * (size // block - 1)
    return header + b"".join(blocks) + ((block << 3) | (1 << 1) | 1).to_bytes(3, "little") + b"x"


def measured(folder: Path, name: str, content: bytes, reads: str, wanted_format: str) -> tuple[Examined, int]:
    path = folder / name
    path.write_bytes(content)
    return peak_bytes(examine, str(path), reads, wanted_format, DAY)


@pytest.fixture(scope="module")
def endless() -> bytes:
    """What a record of any format may go on with: 64 MB in 64 kB."""
    return gzip.compress(b"x" * (64 * MEGABYTE))


@pytest.mark.parametrize(("reads", "wanted_format"), UNFOLDING)
def test_a_line_that_does_not_end(
    tmp_path: Path, small_records: None, endless: bytes, reads: str, wanted_format: str
) -> None:
    """One record of 64 MB ends where a record may not go on, in every format."""
    content = gzip.compress(UNFOLDING[reads, wanted_format]) + endless
    result, grown = measured(tmp_path, "bomb", content, reads, wanted_format)
    assert (result.refused, result.counts.rejected) == (None, {"truncated_file": 1})
    assert grown < SMALL_GROWTH


def test_every_format_that_can_be_compressed_is_tried() -> None:
    columnar = ("parquet", "hf_dataset", "retrievals")
    assert set(UNFOLDING) == {
        (r, name) for r, names in FORMATS.items() for name in names if name not in columnar
    }


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, zipped])
def test_a_line_that_does_not_end_in_any_compression(
    tmp_path: Path, small_records: None, compress: Callable[[bytes], bytes]
) -> None:
    content = compress(b'{"text": "good"}\n' + b"x" * (64 * MEGABYTE))
    result, grown = measured(tmp_path, "bomb", content, "corpus", "jsonl")
    assert (result.counts.accepted, result.counts.rejected) == (1, {"truncated_file": 1})
    assert grown < SMALL_GROWTH


@pytest.mark.parametrize("compress", [lzma.compress, lambda content: zst(len(content))], ids=["xz", "zst"])
def test_what_is_not_decompressed(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    content = compress(bytes(8 * MEGABYTE))
    refused, grown = measured(tmp_path, "bomb.jsonl", content, "corpus", "auto")
    assert refused.refused and "fits none of" in refused.refused
    result, grown_too = measured(tmp_path, "bomb.jsonl", content, "corpus", "jsonl")
    assert result.counts.read == result.counts.rejected.total() > 0
    assert max(grown, grown_too) < SMALL_GROWTH


@pytest.mark.parametrize("outer", [gzip.compress, bz2.compress, zipped])
@pytest.mark.parametrize("inner", [gzip.compress, bz2.compress, zipped, lzma.compress])
def test_only_one_layer_is_unfolded(
    tmp_path: Path, outer: Callable[[bytes], bytes], inner: Callable[[bytes], bytes]
) -> None:
    """A file of layers could unfold to any size; the second layer is content that fits no format."""
    content = outer(inner(inner(bytes(4 * MEGABYTE))))
    result, grown = measured(tmp_path, "bomb", content, "corpus", "auto")
    assert result.refused and "fits none of" in result.refused
    assert grown < SMALL_GROWTH


def test_an_archive_whose_files_overlap(tmp_path: Path) -> None:
    """Its table of contents names one compressed file a thousand times."""
    archive = zipped(b"x" * MEGABYTE)
    end = archive.index(b"PK\x05\x06")
    directory = archive[archive.index(b"PK\x01\x02") : end]
    count, size = (1000).to_bytes(2, "little"), (1000 * len(directory)).to_bytes(4, "little")
    bomb = archive[:end] + directory * 999 + archive[end : end + 8] + count * 2 + size + archive[end + 16 :]
    (tmp_path / "bomb.zip").write_bytes(bomb)
    assert len(zipfile.ZipFile(tmp_path / "bomb.zip").infolist()) == 1000
    with pytest.raises(UsageError, match=r"bomb.zip: cannot be read as a zip archive \(its files overlap"):
        plan_sources(STORAGE, [str(tmp_path / "bomb.zip")], "auto")


@pytest.mark.parametrize(("reads", "column"), [("corpus", "text"), ("questions", "question")])
def test_a_dictionary_that_stands_for_gigabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: str, column: str
) -> None:
    """A file of a kilobyte holds a value of four megabytes once, and 60 rows of it."""
    monkeypatch.setattr(parquet_batches, "MOST_BYTES", SMALL_RECORD)
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 60, pa.int32()), pa.array(["x" * SMALL_RECORD]))
    file = io.BytesIO()
    pq.write_table(pa.table({column: values}), file, compression="zstd", store_schema=False)
    assert len(file.getvalue()) < 2_000
    result, grown = measured(tmp_path, "bomb.parquet", file.getvalue(), reads, "parquet")
    assert (result.refused, result.counts.read) == (None, 60)
    assert grown < SMALL_GROWTH


def test_lines_without_end(tmp_path: Path) -> None:
    """Half a million empty lines in a file of 600 bytes: each is counted, none is held."""
    result, grown = measured(tmp_path, "bomb", gzip.compress(b"\n" * 500_000), "corpus", "jsonl")
    assert result.counts.left_out == {"empty_line": 500_000}
    assert grown < SMALL_GROWTH


LAUGHS = "".join(
    f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha"}">' for n in range(10)
)  # a thousand million of them


@pytest.mark.parametrize("place", ["before", "inside"])
@pytest.mark.parametrize("entity", ["&l9;", "&x;"])
def test_entities_are_not_expanded_and_nothing_is_fetched(tmp_path: Path, place: str, entity: str) -> None:
    (tmp_path / "secret").write_text("a secret")
    declared = f'<!DOCTYPE mediawiki [{LAUGHS}<!ENTITY x SYSTEM "file://{tmp_path}/secret">]>'
    before, inside = (declared, "") if place == "before" else ("", declared)
    page = "<page>{}<title>{}</title><ns>0</ns><id>{}</id><revision><text>words {}</text></revision></page>"
    content = (
        f"{before}<mediawiki>{page.format(inside, 'T', 1, entity)}{page.format('', entity, 2, 'x')}"
        f"{page.format('', 'Good', 3, 'x')}</mediawiki>"
    )
    result, grown = measured(tmp_path, "dump.xml", content.encode(), "corpus", "wikipedia_xml")
    assert (result.counts.accepted, result.counts.rejected) == (1, {"bad_row": 2})
    assert grown < SMALL_GROWTH


def page(markup: str) -> bytes:
    """An export of one page; the markup holds nothing that XML would read."""
    text = markup.replace("&", "&amp;").replace("<", "&lt;")
    return f"<mediawiki><page><title>T</title><text>{text}</text></page></mediawiki>".encode()


MARKUP = {
    "templates": "{{a|" * 50_000 + "}}" * 50_000,
    "open templates": "{{a|" * 100_000,
    "parameters": "{{{" * 50_000 + "}}}" * 50_000,
    "tables": "{|\n|\n" * 50_000,
    "closed tables": "{|\n|\n" * 20_000 + "|}\n" * 20_000,
    "links": "[[a|" * 50_000 + "]]" * 50_000,
    "open links": "[http://a " * 30_000,
    "tags": "<b>" * 50_000 + "</b>" * 50_000,
    "paragraphs": "<p>" * 100_000,
    "unfinished tags": "<br " * 100_000,
    "unfinished attributes": '<li a="' * 50_000,
    "references": "<ref>" * 100_000,
    "comments": "<!--" * 100_000,
    "styles": "'''" * 100_000,
    "headings": "=" * 300_000,
    "lists": "*" * 300_000 + "\n:" * 100_000,
    "brackets": "(" * 300_000 + "( , " * 100_000,
    "entities": "&#x" * 300_000,
    "closed links": "[[a]]" * 400_000,
    "some open among many": "<i>" * 400 + "[[a]]" * 20_000,
}


@pytest.mark.parametrize("name", MARKUP)
def test_markup_nested_without_end(tmp_path: Path, name: str) -> None:
    result, grown = measured(tmp_path, "dump.xml", page(MARKUP[name]), "corpus", "wikipedia_xml")
    assert result.counts.read == 1
    assert set(result.counts.rejected) <= {"bad_field"} and set(result.counts.left_out) <= {"empty_document"}
    assert grown < SMALL_GROWTH


def test_elements_nested_without_end(tmp_path: Path) -> None:
    content = b"<mediawiki><page>" + b"<a>" * 300_000 + b"</a>" * 300_000 + b"</page></mediawiki>"
    result, grown = measured(tmp_path, "dump.xml", content, "corpus", "wikipedia_xml")
    assert result.counts.read == 1 and not result.counts.accepted
    assert grown < 2 * SMALL_GROWTH


@pytest.mark.parametrize(
    "unit", [b"[", b"{},", *(pytest.param(u, marks=pytest.mark.slow) for u in (b'{"a":', b'["a",[', b"[],"))]
)
@pytest.mark.parametrize("name", ["corpus/jsonl", "corpus/squad", "questions/kilt", "training/dpr_training"])
def test_json_of_brackets(tmp_path: Path, name: str, unit: bytes) -> None:
    """Twelve megabytes, nested or side by side; parsed they would take hundreds."""
    reads, wanted_format = name.split("/")
    opening = {"squad": b'{"data": [{"a": [', "dpr_training": b'[{"a": ['}.get(wanted_format, b'{"a": [')
    content = opening + unit * (12 * MEGABYTE // len(unit)) + b"\n"
    result, grown = measured(tmp_path, "bomb.json", content, reads, wanted_format)
    assert result.counts.rejected.total() == 1 and not result.counts.accepted
    assert grown < 2 * SMALL_GROWTH


@pytest.mark.slow
@pytest.mark.parametrize(("reads", "wanted_format"), UNFOLDING)
def test_a_line_of_a_gigabyte(tmp_path: Path, reads: str, wanted_format: str) -> None:
    """With the limit as it is: what is held is a record of 256 MiB, in a few copies."""
    path = tmp_path / "bomb"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(UNFOLDING[reads, wanted_format])
        for _ in range(1024):
            file.write(b"x" * MEGABYTE)
    result, grown = peak_bytes(examine, str(path), reads, wanted_format, DAY)
    assert (result.refused, result.counts.rejected) == (None, {"truncated_file": 1})
    print(f"{reads}/{wanted_format}: {grown >> 20:,} MiB")
    assert grown < 5 * files.MAX_RECORD_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, seed in seeds().items() if len(seed.files) == 1])
def test_a_gigabyte_of_zeros(tmp_path: Path, name: str) -> None:
    """A good file with a gigabyte of NUL bytes after it, whatever its format."""
    seed = seeds()[name]
    path = tmp_path / next(iter(seed.files))
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(next(iter(seed.files.values())))
        for _ in range(1024):
            file.write(bytes(MEGABYTE))
    result, grown = peak_bytes(examine, str(path), seed.reads, seed.format, DAY)
    assert (
        result.refused or result.counts.rejected.total() <= 2
    )  # a book that is cut off holds NUL bytes, too
    assert grown < 5 * files.MAX_RECORD_BYTES
