"""Decoding of image files that may be damaged or malicious.

Three decoders share the work: zlib for the plain PNGs that `ganscale pack` writes, libjpeg-turbo
for JPEGs, and Pillow for everything else. Each reports a damaged file as an error, whereas
torchvision's decoder may crash the process.
"""

import struct
from typing import NamedTuple

import numpy as np
import simplejpeg

from ganscale.data.images import (
    EXIF_ORIENTATION,
    JPEG_SIGNATURE,
    SHARD_FORMATS,
    START_OF_SCAN,
    check_pixels,
    convert,
    open_image,
    refuse_scan_bomb,
    resize,
)
from ganscale.data.reading.png import Bytes, Pixels, PlainPng

JPEG_MODES = {1: "GRAY", 3: "RGB"}
PIXEL_TYPES: dict[int, type[np.uint8] | type[np.uint16]] = {8: np.uint8, 16: np.uint16}
"""Of a value of so many bits."""
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
APP1 = 0xFFE1
FRAME_MARKERS = frozenset(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC}


class Decoder:
    """Decodes the image files of a dataset into one shape (channels, height, width).

    With `resize`, an image of another size is cropped at the centre and resized (Lanczos).
    """

    def __init__(
        self, shape: tuple[int, int, int], max_pixels: int, resize: bool = False, bits: int = 8
    ):
        self._channels, self._size = shape[0], shape[1:]
        self._bits = bits
        self._max_pixels = max_pixels
        self._resize = resize
        self._plain = PlainPng(shape, bits)
        self.stored_size = self._plain.size
        """Height and width of the PNG that `ganscale pack` writes of such an image, pixels."""
        self.unfilter = self._plain.unfilter

    def scanlines(self, content: bytes) -> bytes | None:
        """Return the scanlines of a plain PNG, which `unfilter` turns into pixels.

        Returns None for any other file; use `decode` for it.
        """
        if not self._plain.is_announced(content):
            return None
        check_pixels(*self._plain.size, self._max_pixels)
        return self._plain.scanlines(content)

    def decode(self, content: bytes, into: Pixels) -> None:
        """Write the pixels of a PNG, JPEG or WebP file `into` (height, width, channels), uint8.

        Other channels than grey or RGB, and 16 bits, are only in the files that `scanlines` reads.
        Raises `ValueError` if the content is not such an image, has another size, or announces
        more than `max_pixels` (checked before any pixel is decoded).
        """
        if not content:
            raise ValueError("the file is empty")
        if self._bits != 8 or self._channels not in JPEG_MODES:
            raise ValueError(
                f"not a PNG as ganscale pack writes it for {self._channels} channels of "
                f"{self._bits} bits and {self._size[1]}×{self._size[0]} pixels"
            )
        if content.startswith(JPEG_SIGNATURE) and self._decode_jpeg(content, into.view(np.uint8)):
            return
        image = convert(open_image(content, SHARD_FORMATS, self._max_pixels), self._channels)
        if self._resize:
            image = resize(image, self._size)
        self._check_size(image.height, image.width)
        into[:] = np.asarray(image).reshape(into.shape)

    def _decode_jpeg(self, content: bytes, into: Bytes) -> bool:
        """Decode with libjpeg-turbo, which is faster than Pillow; return False if it cannot."""
        frame = _jpeg_frame(content)
        if frame is None or not frame.plain or frame.components not in (1, self._channels):
            return False
        if (frame.height, frame.width) != self._size and self._resize:
            return False
        refuse_scan_bomb(content)
        check_pixels(frame.height, frame.width, self._max_pixels)
        self._check_size(frame.height, frame.width)
        pixels = simplejpeg.decode_jpeg(content, JPEG_MODES[self._channels], buffer=into)
        if pixels.shape != into.shape:  # the file states two sizes, and the decoder used the other
            raise ValueError(f"it decodes to shape {pixels.shape}, not {into.shape}")
        return True

    def _check_size(self, height: int, width: int) -> None:
        if (height, width) != self._size:
            raise ValueError(
                f"{width}×{height} pixels in a dataset of {self._size[1]}×{self._size[0]}"
            )


def decode_bytes(
    content: bytes,
    shape: tuple[int, int, int],
    max_pixels: int,
    resize: bool = False,
    bits: int = 8,
) -> Pixels:
    """Decode one file as `Decoder` does; return uint8 or uint16, (channels, height, width)."""
    decoder = Decoder(shape, max_pixels, resize, bits)
    if not resize:  # the shape may come from a stranger's manifest
        check_pixels(*decoder.stored_size, max_pixels)
    pixels: Pixels = np.empty((1, *shape[1:], shape[0]), PIXEL_TYPES[bits])
    rows = decoder.scanlines(content)
    if rows is None:
        decoder.decode(content, pixels[0])
    else:
        decoder.unfilter([rows], pixels)
    return np.moveaxis(pixels[0], 2, 0)


class _Frame(NamedTuple):
    height: int
    width: int
    components: int
    plain: bool
    """8 bits per value, and no metadata that rotates the image."""


def _jpeg_frame(content: bytes) -> _Frame | None:
    """Parse the headers of a JPEG (ITU T.81, B.2); return None unless they are of one image."""
    position, plain, frame = 2, True, None
    while position + 10 <= len(content):
        marker, length = struct.unpack_from(">HH", content, position)
        if marker == START_OF_SCAN:
            return frame and frame._replace(plain=frame.plain and plain)
        if not 0xFFC0 <= marker <= 0xFFFE or (frame and marker in FRAME_MARKERS):
            return None
        if marker in FRAME_MARKERS:
            bits, height, width, components = struct.unpack_from(">BHHB", content, position + 4)
            frame = _Frame(height, width, components, bits == 8)
        if marker == APP1:
            plain = plain and _is_upright(content[position + 4 : position + 2 + length])
        position += 2 + length
    return None


def _is_upright(metadata: bytes) -> bool:
    """Return whether an APP1 segment leaves the image unrotated; False if that is unclear."""
    if metadata.startswith(XMP):
        return b"Orientation" not in metadata
    if not metadata.startswith(EXIF):
        return True
    tiff = metadata[len(EXIF) :]
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        if order is None:
            return False
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(entries):
            tag, kind, count, value = struct.unpack_from(
                f"{order}HHIH", tiff, directory + 2 + 12 * entry
            )
            if tag == EXIF_ORIENTATION:
                return bool((kind, count, value) == (3, 1, 1))
    except struct.error:
        return False
    return True
