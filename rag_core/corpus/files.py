"""Bytes, lines and characters of a source file, whatever it is compressed with.

Files come as blocks of decompressed bytes, so that memory is bounded by a block, or by a line where
lines are asked for. Compression (gzip, bz2, a member of a zip archive) is told by the first bytes.
"""

import bz2
import errno
import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from rag_core.corpus.rows import BadRecord
from rag_core.corpus.source import Source
from rag_core.errors import reason_of
from rag_core.records import EXCERPT_CHARACTERS, RejectReason
from rag_core.storage import Storage

BLOCK_BYTES = 1 << 18
MAX_RECORD_BYTES = 1 << 28  # a line or page beyond 256 MiB means that the file is not what it is read as

_GZIP, _BZ2, _ZIP = b"\x1f\x8b", b"BZh", b"PK\x03\x04"
_UTF8_MARK = b"\xef\xbb\xbf"
# what damaged or encrypted data makes decompression and Python's zipfile raise
_DECOMPRESSION_ERRORS = (
    *(EOFError, zlib.error, zipfile.BadZipFile, struct.error, OSError),
    *(RuntimeError, ValueError, KeyError, OverflowError),
)


class DamagedFileError(Exception):
    """The file ends early or cannot be decompressed further; the message gives the byte position.

    Raised after all that could be read was given out.
    """


class _Section(io.RawIOBase):
    """The bytes [begin, end) of a file, as a file."""

    def __init__(self, file: BinaryIO, begin: int, end: int):
        self._file = file
        self._left = end - begin
        file.seek(begin)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)


def is_zip(storage: Storage, path: str) -> bool:
    """Whether the file is a zip archive, by its first bytes."""
    with storage.open(path) as file:
        return file.read(len(_ZIP)) == _ZIP


def is_compressed(storage: Storage, path: str) -> bool:
    """Whether the file is compressed with gzip or bz2, by its first bytes."""
    with storage.open(path) as file:
        return file.read(4).startswith((_GZIP, _BZ2))


def zip_members(storage: Storage, path: str) -> list[str]:
    """Names of the files in a zip archive that hold data, in the archive's order.

    Raises:
      zipfile.BadZipFile: the archive has no readable table of contents.
    """
    try:
        with storage.open(path) as file, zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            if not all(info.filename for info in infos):
                raise zipfile.BadZipFile("one of its files has no name")
            if sum(info.compress_size for info in infos) > file.seek(0, io.SEEK_END):
                raise zipfile.BadZipFile(
                    "its files overlap, which one of a few megabytes can unfold to anything"
                )
    except _DECOMPRESSION_ERRORS as error:
        if not tells_of_damage(error):
            raise
        raise zipfile.BadZipFile(reason_of(error)) from error
    return [
        info.filename
        for info in infos
        if info.file_size and not info.is_dir() and not info.filename.startswith("__MACOSX/")
    ]


def tells_of_damage(error: Exception) -> bool:
    """Whether an error is about the data; else the disk or the network failed, and nothing is known of it.

    Where damaged data names a negative place in its file, the system calls that an invalid argument.
    """
    return not isinstance(error, OSError) or error.errno in (None, errno.EINVAL)


def read_blocks(storage: Storage, source: Source) -> Iterator[bytes]:
    """The decompressed bytes of a source, in blocks of at most `BLOCK_BYTES`, none empty.

    Raises:
      DamagedFileError: the compressed data is cut off or corrupt, after the last good byte.
    """
    with storage.open(source.path) as file:
        position = 0
        try:
            opened = _decompressed(file, source)
            while block := opened.read1(BLOCK_BYTES):
                position += len(block)
                yield block
        except _DECOMPRESSION_ERRORS as error:
            if not tells_of_damage(error):
                raise
            raise DamagedFileError(
                f"damaged after {position:,} decompressed bytes ({reason_of(error)}); "
                "what came before is kept; fetch the file again"
            ) from error


def _decompressed(file: BinaryIO, source: Source) -> io.BufferedReader:
    begin, end = source.byte_range or (0, file.seek(0, io.SEEK_END))
    file.seek(begin)
    magic = file.read(4)
    if source.member is not None:
        return zipfile.ZipFile(file).open(source.member)  # type: ignore[return-value]
    section: io.BufferedReader = io.BufferedReader(_Section(file, begin, end), BLOCK_BYTES)
    if magic.startswith(_GZIP):
        return gzip.GzipFile(fileobj=section)  # type: ignore[return-value]
    if magic.startswith(_BZ2):
        return bz2.BZ2File(section)  # type: ignore[return-value]
    return section


def read_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines with their line ends, the last one perhaps without; a UTF-8 byte order mark is dropped.

    Raises:
      DamagedFileError: the file is damaged (the piece of a line before that point is not given out), or
        a line is longer than `MAX_RECORD_BYTES`.
    """
    pieces: list[bytes] = []  # of a line that spans blocks
    held_bytes = 0
    is_start = True
    for block in blocks:
        if is_start:
            block = block.removeprefix(_UTF8_MARK)
            is_start = False
        for piece in io.BytesIO(block):
            pieces.append(piece)
            held_bytes += len(piece)
            if piece.endswith(b"\n"):
                yield b"".join(pieces)
                pieces, held_bytes = [], 0
            elif held_bytes > MAX_RECORD_BYTES:
                raise DamagedFileError(
                    f"a line is longer than {MAX_RECORD_BYTES:,} bytes; is this a text file?"
                )
    if pieces:
        yield b"".join(pieces)


def decode(data: bytes) -> str:
    """The text of one record.

    Raises:
      BadRecord: `bad_encoding`, for invalid UTF-8 and for NUL bytes.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRecord(
            RejectReason.BAD_ENCODING,
            f"expected UTF-8, got byte 0x{data[error.start]:02x} at byte {error.start:,} of the record",
            excerpt=data[:EXCERPT_CHARACTERS].decode("utf-8", "replace"),
        ) from error
    if (at := data.find(b"\0")) >= 0:
        excerpt = text[:EXCERPT_CHARACTERS].replace("\0", "\N{REPLACEMENT CHARACTER}")
        raise BadRecord(
            RejectReason.BAD_ENCODING, f"a NUL byte at byte {at:,} of the record", excerpt=excerpt
        )
    return text
