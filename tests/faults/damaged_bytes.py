"""Damage that files come with: bytes flipped, cut, doubled, moved, inserted, spliced, or all of them others."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable, Sequence
from random import Random

# what a format's reader looks for, and what it does not expect
FRAGMENTS: tuple[bytes, ...] = (
    *(bytes([byte]) for byte in b"\0\n\r\t \",:;{}[]()<>|=&/\\'*#-_09eE\x01\x0b\x0c\x1b\x1c\x7f\x80\xc3\xff"),
    b'""',
    b'"\t"',
    b'",',
    b"\r\n",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe2\x80\xa8",
    b"\\ud800",
    b"\\u0000",
    b"\\",
    b"null",
    b"true",
    b"NaN",
    b"1e999",
    b"-1",
    b"9" * 5_000,
    b"[" * 1_200,
    b"{" * 60,
    b'{"a":' * 1_100,
    b"{{" * 60,
    b"[[" * 60,
    b"{|\n" * 60,
    b"<ref>" * 60,
    b"<!--",
    b"<![CDATA[",
    b"<!DOCTYPE x [<!ENTITY a 'b'>]>",
    b"&a;",
    b"&#0;",
    b"&amp;#xD800;",
    b"<page>",
    b"</page>",
    b"<text>",
    b"</text>",
    b"</mediawiki>",
    b"<namespaces>",
    b'<namespace key="99">x</namespace>',
    b"<doc id=",
    b"</doc>\n",
    b"PK\x03\x04",
    b"\x1f\x8b\x08",
    b"BZh9",
    b"PAR1",
)


def damage(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """A damaged copy: one to four faults, one after the other.

    Args:
      random: decides which and where.
      others: whole files of other formats, to splice with.
    """
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        fault = random.choice(_FAULTS)
        data = fault(data, random) if fault is not _splice or not others else _splice(data, random, others)
    return data


def wrap(data: bytes, random: Random, name: str) -> bytes:
    """The data as it is, compressed, or inside an archive; then sometimes damaged once more."""
    kind = random.choice(("plain", "plain", "plain", "gz", "bz2", "zip", "xz"))
    if kind == "plain":
        return data
    compressed = wrapped(kind, data, name)
    return damage(compressed, random) if random.random() < 0.5 else compressed


def wrapped(kind: str, data: bytes, name: str) -> bytes:
    """The data compressed, or as the file of this name in an archive: `gz`, `bz2`, `xz` or `zip`."""
    return _WRAPPERS[kind](data, name)


def _flip(data: bytes, random: Random) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(random.randint(1, 4)):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _replace(data: bytes, random: Random) -> bytes:
    begin, end = _span(data, random, longest=8)
    return data[:begin] + random.randbytes(end - begin) + data[end:]


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randint(0, len(data))]


def _remove(data: bytes, random: Random) -> bytes:
    begin, end = _span(data, random)
    return data[:begin] + data[end:]


def _double(data: bytes, random: Random) -> bytes:
    begin, end = _span(data, random)
    times = random.choice((2, 2, 3, 50)) if end - begin < 2_000 else 2
    return data[:begin] + data[begin:end] * times + data[end:]


def _insert(data: bytes, random: Random) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.choice(FRAGMENTS) + data[at:]


def _move(data: bytes, random: Random) -> bytes:
    begin, end = _span(data, random)
    rest = data[:begin] + data[end:]
    at = random.randint(0, len(rest))
    return rest[:at] + data[begin:end] + rest[at:]


def _splice(data: bytes, random: Random, others: Sequence[bytes] = (b"",)) -> bytes:
    other = random.choice(others)
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


def _noise(data: bytes, random: Random) -> bytes:
    return random.randbytes(random.randint(1, 200))


_FAULTS: tuple[Callable[..., bytes], ...] = (
    *(_flip, _replace, _cut, _remove, _double, _insert, _insert, _insert, _move, _splice),
    _noise,
)


def _span(data: bytes, random: Random, longest: int | None = None) -> tuple[int, int]:
    begin = random.randint(0, len(data))
    most = len(data) if longest is None else min(len(data), begin + longest)
    return begin, random.randint(begin, max(begin, most))


def _zipped(data: bytes, name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return file.getvalue()


_WRAPPERS: dict[str, Callable[[bytes, str], bytes]] = {
    "gz": lambda data, name: gzip.compress(data, 1),
    "bz2": lambda data, name: bz2.compress(data, 1),
    "xz": lambda data, name: lzma.compress(data, preset=0),
    "zip": _zipped,
}
