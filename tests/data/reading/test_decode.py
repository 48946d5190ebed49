"""What one image file can make a decoder do: nothing before its claims are checked."""

import io
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from ganscale.data.images import SHARD_FORMATS, open_image
from ganscale.data.reading import png
from ganscale.data.reading.decode import Decoder, decode_bytes

LARGE = (1, 2000, 2000)
PLAIN = png.encode(np.zeros((2000, 2000, 1), np.uint8))


@pytest.mark.parametrize(
    "decode",
    [
        lambda: Decoder(LARGE, 10**6).scanlines(PLAIN),
        lambda: Decoder(LARGE, 10**6, resize=True).scanlines(PLAIN),
        lambda: decode_bytes(PLAIN, LARGE, 10**6),
        lambda: decode_bytes(b"no image", LARGE, 10**6),
    ],
    ids=["inflated", "inflated to be resized", "of a manifest's shape", "no image"],
)
def test_pixels_are_counted_before_memory_is_taken(decode: Callable[[], object]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"2000×2000 pixels exceed data\.max_pixels"):
            decode()
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def of_many_scans(scans: int) -> bytes:
    """A progressive JPEG of the mean of each block alone, in so many scans that all give it."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((16, 16)).save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    start = content.index(b"\xff\xda")
    scan = bytearray(content[start : content.index(b"\xff\xc4", start)])
    scan[9] = 0  # all bits at once: a decoder that is strict has nothing against it
    return content[:start] + bytes(scan) * scans + b"\xff\xd9"


def by_pillow(content: bytes) -> object:
    return open_image(content, SHARD_FORMATS, 10**6)


def by_turbo(content: bytes) -> object:
    pixels = np.empty((16, 16, 1), np.uint8)
    return Decoder((1, 16, 16), 10**6).decode(content, pixels)


@pytest.mark.parametrize("decode", [by_pillow, by_turbo])
def test_a_jpeg_of_very_many_scans_is_refused(decode: Callable[[bytes], object]) -> None:
    """Some megabytes of scans of a large image would take hours."""
    decode(of_many_scans(50))
    with pytest.raises(ValueError, match="a JPEG with 101 scans; at most 100 are accepted"):
        decode(of_many_scans(101))
