"""What accidents and strangers do to a file: a few changes drawn from a seeded generator."""

import json
import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 2, 99, 10**9, 10**30, 1.5, 1e308, "", "x", "²", "\0", "..", "/dev/zero"),
    *("pipe:false", "file:///etc/passwd", "a" * 5000, "\ud800", "\x1b[2J", [], {}, [[]]),
)


def mutated(content: bytes, random: Random) -> bytes:
    """One to four changes."""
    changed = bytearray(content)
    for _ in range(random.randint(1, 4)):
        random.choice(CHANGES)(changed, random)
    return bytes(changed)


def _place(content: bytearray, random: Random) -> int:
    """Anywhere, but half of the time near the beginning, where headers are."""
    most = min(len(content), 256) if random.random() < 0.5 else len(content)
    return random.randrange(most) if most else 0


def _flip(content: bytearray, random: Random) -> None:
    if content:
        content[_place(content, random)] ^= 1 << random.randrange(8)


def _overwrite(content: bytearray, random: Random) -> None:
    start = _place(content, random)
    size = random.choice((1, 2, 4, 16, 512))
    content[start : start + size] = random.randbytes(len(content[start : start + size]))


def _number(content: bytearray, random: Random) -> None:
    start = _place(content, random)
    number = struct.pack(random.choice((">I", "<I")), random.choice(NUMBERS))
    content[start : start + 4] = number[: random.choice((1, 2, 4))]


def _digits(content: bytearray, random: Random) -> None:
    start = _place(content, random)
    text = random.choice((b"-1", b"7777777", b"99999999999", b"1e400", b"\xc2\xb2"))
    content[start : start + len(text)] = text


def _cut(content: bytearray, random: Random) -> None:
    del content[_place(content, random) :]


def _remove(content: bytearray, random: Random) -> None:
    start = _place(content, random)
    del content[start : start + random.choice((1, 4, 100, 512))]


def _repeat(content: bytearray, random: Random) -> None:
    start, target = _place(content, random), _place(content, random)
    content[target:target] = content[start : start + random.choice((1, 12, 100, 512))]


def _blank(content: bytearray, random: Random) -> None:
    start = _place(content, random)
    size = min(random.choice((4, 512, 4096)), len(content) - start)
    content[start : start + size] = bytes(size)


CHANGES: tuple[Callable[[bytearray, Random], None], ...] = (
    *(_flip, _flip, _overwrite, _overwrite, _number, _digits),
    *(_cut, _remove, _repeat, _blank),
)


def with_checksums(png: bytes) -> bytes:
    """A PNG whose chunks have right checksums, as one who means harm would send it."""
    if not png.startswith(PNG_SIGNATURE):
        return png
    chunks, start = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while start + 12 <= len(png):
        length = min(int.from_bytes(png[start : start + 4], "big"), len(png) - start - 12)
        chunk = png[start + 4 : start + 8 + length]
        chunks += [struct.pack(">I", length), chunk, struct.pack(">I", zlib.crc32(chunk))]
        start += 12 + length
    return b"".join([*chunks, png[start:]])


def deflated_anew(png: bytes, random: Random) -> bytes:
    """A PNG whose pixels before compression are changed: its filters, its number of bytes."""
    start = png.find(b"IDAT")
    if start < 0:
        return png
    length = int.from_bytes(png[start - 4 : start], "big")
    try:
        rows = zlib.decompress(png[start + 4 : start + 4 + length])
    except zlib.error:
        return png
    data = zlib.compress(mutated(rows, random))
    return with_checksums(
        png[: start - 4] + struct.pack(">I", len(data)) + b"IDAT" + data + png[start + 4 + length :]
    )


def mutated_json(content: bytes, random: Random) -> bytes:
    """JSON in which one value, at any depth, has become another."""
    tree = json.loads(content)
    node, key = {"": tree}, ""
    top: Any = node
    while isinstance(node[key], dict | list) and node[key] and random.random() < 0.85:
        node = node[key]
        key = random.choice(list(node) if isinstance(node, dict) else range(len(node)))
    node[key] = random.choice(VALUES)
    return json.dumps(top[""]).encode()
