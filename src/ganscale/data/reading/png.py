"""Plain PNG files as `ganscale pack` writes them, which need no general PNG decoder.

All rows of an image use the same filter (none, sub or up; W3C PNG, section 9), whichever gives the
smallest file. A general decoder must undo a different filter in each row; here `zlib` and a sum in
numpy are enough, for many images at once. Any other program can read the files, too.
"""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
NONE, SUB, UP = range(3)
COLOUR_TYPES = {1: 0, 3: 2}
TRIAL_LEVEL, LEVEL = 1, 6  # zlib's compression levels to choose a filter, and to write
DATA = 41  # where the compressed rows begin: after the signature, IHDR and the start of IDAT
TAIL = 16  # bytes after them: the checksum of IDAT, and IEND


def encode(pixels: Bytes) -> bytes:
    """Encode an image, uint8 (height, width, 1 or 3), as a PNG file; always the same bytes."""
    height, width, channels = pixels.shape
    # Filters as in the standard: differences modulo 256, with zeros left of and above the image.
    filtered = {NONE: pixels, SUB: pixels.copy(), UP: pixels.copy()}
    filtered[SUB][:, 1:] -= pixels[:, :-1]
    filtered[UP][1:] -= pixels[:-1]
    candidates = [_scanlines(rows, kind) for kind, rows in filtered.items()]
    best = min(candidates, key=lambda rows: len(zlib.compress(rows, TRIAL_LEVEL)))
    return b"".join(
        [
            _beginning((channels, height, width)),
            _chunk(b"IDAT", zlib.compress(best, LEVEL)),
            _chunk(b"IEND", b""),
        ]
    )


def _scanlines(rows: Bytes, kind: int) -> bytes:
    """Return the rows as they are compressed, each after a byte that names its filter."""
    height = len(rows)
    return np.insert(rows.reshape(height, -1), 0, kind, axis=1).tobytes()


def _beginning(shape: tuple[int, int, int]) -> bytes:
    """Return signature and header of an 8-bit, non-interlaced image (channels, height, width)."""
    channels, height, width = shape
    header = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPES[channels], 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return b"".join([struct.pack(">I", len(content)), kind, content, struct.pack(">I", checksum)])


END = _chunk(b"IEND", b"")


class PlainPng:
    """Reads what `encode` writes for images of one shape (channels, height, width)."""

    def __init__(self, shape: tuple[int, int, int]):
        channels, height, width = shape
        self._shape = (height, width, channels)
        self._beginning = _beginning(shape)
        self._stride = 1 + width * channels
        self._size = height * self._stride
        self._uniform = frozenset(bytes([kind]) * height for kind in (NONE, SUB, UP))

    def is_announced(self, content: bytes) -> bool:
        """Return whether a file begins as `encode` writes it; this decompresses nothing."""
        return content.startswith(self._beginning)

    def scanlines(self, content: bytes) -> bytes | None:
        """Return the filtered rows of a file, or None if it is not a plain PNG of this shape.

        Raises `ValueError` if it is a plain PNG but damaged. Never decompresses more bytes than
        the image needs, whatever the file contains.
        """
        length = len(content) - DATA - TAIL
        if (
            not self.is_announced(content)
            or content[33:DATA] != length.to_bytes(4, "big", signed=True) + b"IDAT"
            or not content.endswith(END)
        ):
            return None
        if zlib.crc32(content[37 : DATA + length]) != int.from_bytes(content[-TAIL:-12], "big"):
            raise ValueError("a damaged PNG: checksum mismatch")
        inflater = zlib.decompressobj()
        try:
            rows = inflater.decompress(content[DATA : DATA + length], self._size + 1)
        except zlib.error as error:
            raise ValueError(f"a damaged PNG: {error}") from None
        if len(rows) != self._size or not inflater.eof:
            raise ValueError("a damaged PNG: its data does not match its size")
        return rows if rows[:: self._stride] in self._uniform else None

    def unfilter(self, scanlines: Sequence[bytes], into: Bytes) -> None:
        """Write the pixels of N images `into` (N, height, width, channels), contiguous."""
        number = len(scanlines)
        rows = np.frombuffer(b"".join(scanlines), np.uint8)
        rows = rows.reshape(number, self._shape[0], self._stride)
        into[:] = rows[:, :, 1:].reshape(into.shape)
        kinds = rows[:, 0, 0]
        for kind, undo in ((SUB, _undo_sub), (UP, _undo_up)):
            which = np.flatnonzero(kinds == kind)
            if len(which) == number:
                undo(into)
            elif len(which):
                some = into[which]
                undo(some)
                into[which] = some


def _undo_sub(images: Bytes) -> None:
    if len(images) == 1:
        np.add.accumulate(images, axis=2, dtype=np.uint8, out=images)
        return
    for x in range(1, images.shape[2]):
        images[:, :, x] += images[:, :, x - 1]


def _undo_up(images: Bytes) -> None:
    for y in range(1, images.shape[1]):
        images[:, y] += images[:, y - 1]
