"""Plain PNG files as `ganscale pack` writes them, which need no general PNG decoder.

All rows of an image use the same filter (none, sub or up; W3C PNG, section 9), whichever gives the
smallest file. A general decoder must undo a different filter in each row; here `zlib` and a sum in
numpy are enough, for many images at once. Any other program can read the files, too.

One channel is grey, three are RGB and four are RGBA, of 8 or 16 bits. A PNG has no other numbers of
channels: these lie one below another, as one tall grey image.
"""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Pixels = NDArray[np.uint8 | np.uint16]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
NONE, SUB, UP = range(3)
COLOUR_TYPES = {1: 0, 3: 2, 4: 6}
TRIAL_LEVEL, LEVEL = 1, 6  # zlib's compression levels to choose a filter, and to write
DATA = 41  # where the compressed rows begin: after the signature, IHDR and the start of IDAT
TAIL = 16  # bytes after them: the checksum of IDAT, and IEND


def encode(pixels: Pixels) -> bytes:
    """Encode an image, uint8 or uint16 (height, width, channels), as a PNG; always the same bytes.

    See the top of this file for how channels are laid out.
    """
    height, width, channels = pixels.shape
    rows = _as_stored(pixels)
    # Filters as in the standard: differences modulo 256, with zeros left of and above the image.
    filtered = {NONE: rows, SUB: rows.copy(), UP: rows.copy()}
    filtered[SUB][:, 1:] -= rows[:, :-1]
    filtered[UP][1:] -= rows[:-1]
    candidates = [_scanlines(lines, kind) for kind, lines in filtered.items()]
    best = min(candidates, key=lambda lines: len(zlib.compress(lines, TRIAL_LEVEL)))
    return b"".join(
        [
            _beginning((channels, height, width), 8 * pixels.itemsize),
            _chunk(b"IDAT", zlib.compress(best, LEVEL)),
            _chunk(b"IEND", b""),
        ]
    )


def _as_stored(pixels: Pixels) -> Bytes:
    """Return the bytes of the rows in a file, (rows, width, bytes of a pixel)."""
    height, width, channels = pixels.shape
    if channels not in COLOUR_TYPES:
        pixels = pixels.transpose(2, 0, 1).reshape(channels * height, width, 1)
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return np.ascontiguousarray(pixels.astype(">u2")).view(np.uint8)


def _scanlines(rows: Bytes, kind: int) -> bytes:
    """Return the rows as they are compressed, each after a byte that names its filter."""
    height = len(rows)
    return np.insert(rows.reshape(height, -1), 0, kind, axis=1).tobytes()


def _beginning(shape: tuple[int, int, int], bits: int) -> bytes:
    """Return signature and header of a non-interlaced image (channels, height, width)."""
    channels, height, width = shape
    rows = height if channels in COLOUR_TYPES else channels * height
    colour = COLOUR_TYPES.get(channels, COLOUR_TYPES[1])
    header = struct.pack(">IIBBBBB", width, rows, bits, colour, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return b"".join([struct.pack(">I", len(content)), kind, content, struct.pack(">I", checksum)])


END = _chunk(b"IEND", b"")


class PlainPng:
    """Reads what `encode` writes for images of one shape (channels, height, width) and depth."""

    def __init__(self, shape: tuple[int, int, int], bits: int = 8):
        channels, height, width = shape
        is_stacked = channels not in COLOUR_TYPES
        self.size = (channels * height if is_stacked else height, width)
        """Height and width of the image in the file, pixels."""
        self._channels = channels if is_stacked else None
        self._bits = bits
        self._pixel = (1 if is_stacked else channels) * bits // 8  # bytes
        self._beginning = _beginning(shape, bits)
        self._stride = 1 + width * self._pixel
        self._bytes = self.size[0] * self._stride
        self._uniform = frozenset(bytes([kind]) * self.size[0] for kind in (NONE, SUB, UP))

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
            rows = inflater.decompress(content[DATA : DATA + length], self._bytes + 1)
        except zlib.error as error:
            raise ValueError(f"a damaged PNG: {error}") from None
        if len(rows) != self._bytes or not inflater.eof:
            raise ValueError("a damaged PNG: its data does not match its size")
        return rows if rows[:: self._stride] in self._uniform else None

    def unfilter(self, scanlines: Sequence[bytes], into: Pixels) -> None:
        """Write the pixels of N images `into` (N, height, width, channels), contiguous."""
        if into.dtype == np.uint8 and self._channels is None:
            self._undo(scanlines, into.view(np.uint8))
            return
        height, width = self.size
        stored = np.empty((len(scanlines), height, width, self._pixel), np.uint8)
        self._undo(scanlines, stored)
        values = stored if self._bits == 8 else stored.view(">u2")
        if self._channels is not None:
            pages = values.reshape(len(scanlines), self._channels, -1, width)
            values = np.moveaxis(pages, 1, 3)
        into[:] = values

    def _undo(self, scanlines: Sequence[bytes], into: Bytes) -> None:
        """Write the unfiltered bytes of N images `into` (N, rows, width, bytes of a pixel)."""
        number = len(scanlines)
        rows = np.frombuffer(b"".join(scanlines), np.uint8)
        rows = rows.reshape(number, self.size[0], self._stride)
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
