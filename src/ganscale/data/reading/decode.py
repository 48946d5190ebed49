"""From the bytes of an image file to pixels, with nothing that a file could make it run.

Three ways give the same pixels: a plain PNG of our own by zlib, a JPEG by libjpeg-turbo, and
everything else by Pillow. Each reports a damaged file; torchvision's decoder crashes on one.
"""

import struct
from typing import NamedTuple

import numpy as np
import simplejpeg

from ganscale.data.images import (
    EXIF_ORIENTATION,
    JPEG_SIGNATURE,
    SHARD_FORMATS,
    check_pixels,
    convert,
    open_image,
    refuse_scan_bomb,
    resize,
)
from ganscale.data.reading.png import Bytes, PlainPng

JPEG_MODES = {1: "GRAY", 3: "RGB"}
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
APP1, START_OF_SCAN = 0xFFE1, 0xFFDA
FRAME_MARKERS = frozenset(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC}


class Decoder:
    """Decodes the image files of a set into one shape (channels, height, width).

    With `resize` an image of another size is brought to this one: the middle, by Lanczos.
    """

    def __init__(self, shape: tuple[int, int, int], max_pixels: int, resize: bool = False):
        self._channels, self._size = shape[0], shape[1:]
        self._max_pixels = max_pixels
        self._resize = resize
        self._plain = PlainPng(shape)
        self.unfilter = self._plain.unfilter

    def scanlines(self, content: bytes) -> bytes | None:
        """What `unfilter` makes pixels of, for many files at once; None where `decode` must."""
        if not self._plain.is_announced(content):
            return None
        check_pixels(*self._size, self._max_pixels)
        return self._plain.scanlines(content)

    def decode(self, content: bytes, into: Bytes) -> None:
        """Write the pixels of a PNG, JPEG or WebP file `into` (height, width, channels).

        Raises `ValueError` where the content is no such image, claims more than `max_pixels`
        (checked before any pixel is decoded) or has another size.
        """
        if not content:
            raise ValueError("an empty file")
        if content.startswith(JPEG_SIGNATURE) and self._decode_jpeg(content, into):
            return
        image = convert(open_image(content, SHARD_FORMATS, self._max_pixels), self._channels)
        if self._resize:
            image = resize(image, self._size)
        self._check_size(image.height, image.width)
        into[:] = np.asarray(image).reshape(into.shape)

    def _decode_jpeg(self, content: bytes, into: Bytes) -> bool:
        """Decode by libjpeg-turbo, which is faster than Pillow; return False where it cannot."""
        frame = _jpeg_frame(content)
        if frame is None or not frame.plain or frame.components not in (1, self._channels):
            return False
        if (frame.height, frame.width) != self._size and self._resize:
            return False
        refuse_scan_bomb(content)
        check_pixels(frame.height, frame.width, self._max_pixels)
        self._check_size(frame.height, frame.width)
        pixels = simplejpeg.decode_jpeg(content, JPEG_MODES[self._channels], buffer=into)
        if pixels.shape != into.shape:  # two sizes in one file: the header's was not the decoder's
            raise ValueError(f"decodes to {pixels.shape}")
        return True

    def _check_size(self, height: int, width: int) -> None:
        if (height, width) != self._size:
            raise ValueError(f"{width}×{height} pixels in a set of {self._size[1]}×{self._size[0]}")


def decode_bytes(
    content: bytes, shape: tuple[int, int, int], max_pixels: int, resize: bool = False
) -> Bytes:
    """The pixels of one file: uint8 of `shape` (channels, height, width); as `Decoder` says."""
    if not resize:  # the shape may be what a stranger's manifest says
        check_pixels(*shape[1:], max_pixels)
    decoder = Decoder(shape, max_pixels, resize)
    pixels: Bytes = np.empty((1, *shape[1:], shape[0]), dtype=np.uint8)
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
    """8 bits, and nothing that turns the image."""


def _jpeg_frame(content: bytes) -> _Frame | None:
    """What a JPEG's headers (ITU T.81, B.2) say; None where they are not those of one image."""
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
    """Whether an APP1 segment leaves the image unturned; False too where it cannot be told."""
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
