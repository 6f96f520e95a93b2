import bz2
import gzip
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_core.corpus import Source
from rag_core.corpus.files import DamagedFileError, decode, read_blocks, read_lines, zip_members
from rag_core.corpus.rows import BadRecord
from tests.rag_core.corpus.reading import STORAGE, write

DATA = b"".join(b"line %d of some text\n" % n for n in range(20_000))


def blocks_until_damage(path: str, **source) -> tuple[bytes, bool]:
    read = bytearray()
    try:
        for block in read_blocks(STORAGE, Source(path, "text", **source)):
            assert block
            read += block
    except DamagedFileError:
        return bytes(read), True
    return bytes(read), False


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress])
def test_compression_is_told_by_content(tmp_path, compress):
    assert blocks_until_damage(write(tmp_path, "named.anyhow", compress(DATA))) == (DATA, False)


def test_several_streams_in_a_row(tmp_path):
    for compress in (gzip.compress, bz2.compress):
        path = write(tmp_path, "f", compress(DATA[:1000]) + compress(DATA[1000:]))
        assert blocks_until_damage(path) == (DATA, False)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_a_cut_file_gives_what_it_holds(tmp_path, compress):
    compressed = compress(DATA[:200_000]) + compress(DATA[200_000:])
    path = write(tmp_path, "f", compressed[:-30])
    read, damaged = blocks_until_damage(path)
    assert damaged
    assert len(read) >= 200_000
    assert DATA.startswith(read)


def test_corrupt_bytes_end_a_file(tmp_path):
    compressed = bytearray(gzip.compress(DATA))
    compressed[len(compressed) // 2] ^= 0xFF
    read, damaged = blocks_until_damage(write(tmp_path, "f", bytes(compressed)))
    assert damaged
    assert len(read) < len(DATA) + 1


def test_a_range_of_streams(tmp_path):
    streams = [bz2.compress(b"%d" % n * 1000) for n in range(3)]
    path = write(tmp_path, "f.bz2", b"".join(streams))
    begin, end = len(streams[0]), len(streams[0]) + len(streams[1])
    assert blocks_until_damage(path, byte_range=(begin, end)) == (b"1" * 1000, False)


def test_members_of_a_zip_archive(tmp_path):
    path = str(tmp_path / "a.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("folder")
        archive.writestr("folder/a.txt", DATA)
        archive.writestr("folder/empty.txt", b"")
        archive.writestr("__MACOSX/._a.txt", b"x")
    assert zip_members(STORAGE, path) == ["folder/a.txt"]
    assert blocks_until_damage(path, member="folder/a.txt") == (DATA, False)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text("a\n\r", min_size=1, max_size=6)))
def test_lines_do_not_depend_on_blocks(pieces):
    text = "".join(pieces).encode()
    expected = [part + b"\n" for part in text.split(b"\n")[:-1]] + [
        part for part in text.split(b"\n")[-1:] if part
    ]
    assert list(read_lines([piece.encode() for piece in pieces])) == expected


def test_byte_order_mark_is_dropped_once():
    mark = b"\xef\xbb\xbf"
    assert list(read_lines([mark + b"a\n", mark + b"b"])) == [b"a\n", mark + b"b"]


def test_an_endless_line_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr("rag_core.corpus.files.MAX_RECORD_BYTES", 1000)
    lines = read_lines([b"first\n", *[b"x" * 600] * 1_000_000])
    assert next(lines) == b"first\n"
    with pytest.raises(DamagedFileError, match="longer than 1,000 bytes"):
        next(lines)


@pytest.mark.parametrize("data", [b"ab\xffc", b"ab\0c", b"\xed\xa0\x80"])
def test_decode_refuses(data):
    with pytest.raises(BadRecord) as caught:
        decode(data)
    assert caught.value.reason == "bad_encoding"
    caught.value.excerpt.encode()  # can be written
    assert "\0" not in caught.value.excerpt
