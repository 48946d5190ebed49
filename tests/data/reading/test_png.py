"""The PNG files that `pack` writes, against Pillow, and what is made of damaged ones."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from ganscale.data.reading.png import NONE, SUB, UP, PlainPng, encode

RNG = np.random.default_rng(0)
COLUMNS, ROWS = np.meshgrid(np.arange(24), np.arange(16))


def textures(channels: int) -> dict[int, np.ndarray]:
    """By filter, an image (16, 24, channels) that becomes smallest with it."""
    sparse = np.zeros((16, 24), np.uint8)
    sparse[4:8, 4:8] = RNG.choice([0, 255], (4, 4))
    along = RNG.integers(0, 256, (16, 1)) + 3 * COLUMNS
    down = RNG.integers(0, 256, (1, 24)) + 3 * ROWS
    return {
        kind: np.repeat(pixels[..., None], channels, axis=2).astype(np.uint8)
        for kind, pixels in ((NONE, sparse), (SUB, along), (UP, down))
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_pillow_reads_what_is_written_and_so_do_we(channels: int) -> None:
    plain = PlainPng((channels, 16, 24))
    images = list(textures(channels).values())
    images += [RNG.integers(0, 256, (16, 24, channels), dtype=np.uint8)]
    files = [encode(image) for image in images]
    for image, content in zip(images, files, strict=True):
        shown = np.asarray(Image.open(io.BytesIO(content)))
        assert np.array_equal(np.atleast_3d(shown), image)
        alone = np.empty((1, *image.shape), np.uint8)
        plain.unfilter([plain.scanlines(content) or b""], alone)
        assert np.array_equal(alone[0], image)
    together = np.empty((4, 16, 24, channels), np.uint8)
    plain.unfilter([plain.scanlines(content) or b"" for content in files], together)
    assert np.array_equal(together, np.stack(images))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_any_channels_and_16_bits_come_back_whole(channels: int, bits: int) -> None:
    dtype = np.uint8 if bits == 8 else np.uint16
    plain = PlainPng((channels, 16, 24), bits)
    smooth = np.stack([(300 + i) * COLUMNS + 7 * ROWS for i in range(channels)], axis=2)
    noise = RNG.integers(0, 2**bits, (2, 16, 24, channels), dtype)
    images = [*noise, smooth.astype(dtype)]
    files = [encode(image) for image in images]
    together = np.empty((3, 16, 24, channels), dtype)
    plain.unfilter([plain.scanlines(content) or b"" for content in files], together)
    assert np.array_equal(together, np.stack(images))
    # Another depth or number of channels is another kind of file.
    other = PlainPng((channels, 16, 24), 24 - bits)
    assert other.scanlines(files[0]) is None
    for content, image in zip(files, images, strict=True):
        shown = Image.open(io.BytesIO(content))
        if channels in (1, 3, 4) and bits == 8:
            assert np.array_equal(np.asarray(shown).reshape(image.shape), image)
        elif channels not in (3, 4):  # of 16-bit colour Pillow reads eight
            tall = np.asarray(shown).reshape(channels, 16, 24)
            assert np.array_equal(tall, np.moveaxis(image, 2, 0))
            assert plain.size == tall.reshape(-1, 24).shape


@pytest.mark.parametrize("kind", [NONE, SUB, UP])
def test_the_filter_is_the_one_that_compresses_best(kind: int) -> None:
    content = encode(textures(3)[kind])
    rows = zlib.decompress(content[41:-16])
    assert {rows[y * 73] for y in range(16)} == {kind}


def test_other_pngs_are_left_to_a_decoder() -> None:
    plain = PlainPng((1, 8, 8))
    image = Image.fromarray(np.zeros((8, 8), np.uint8))
    for other in (image.convert("RGB"), image.convert("1"), image.resize((9, 8))):
        buffer = io.BytesIO()
        other.save(buffer, "PNG")
        assert plain.scanlines(buffer.getvalue()) is None
    for content in (b"", b"\x89PNG", encode(np.zeros((8, 8, 1), np.uint8))[:-1]):
        assert plain.scanlines(content) is None


def with_data(compressed: bytes) -> bytes:
    """A file of 8×8 grey pixels whose data is this, its checksum right."""
    begin = encode(np.zeros((8, 8, 1), np.uint8))[:33]
    data = b"IDAT" + compressed
    end = b"\0\0\0\0IEND\xaeB\x60\x82"
    return (
        begin
        + struct.pack(">I", len(compressed))
        + data
        + zlib.crc32(data).to_bytes(4, "big")
        + end
    )


@pytest.mark.parametrize(
    "rows", [b"\0" * 71, b"\0" * 73, b"\0" * 10**8], ids=["short", "long", "bomb"]
)
def test_as_many_pixels_as_the_header_says_and_no_more(rows: bytes) -> None:
    plain = PlainPng((1, 8, 8))
    assert plain.scanlines(with_data(zlib.compress(b"\0" * 72))) == b"\0" * 72
    content = with_data(zlib.compress(rows))
    tracemalloc.start()
    with pytest.raises(ValueError, match="data does not match its size"):
        plain.scanlines(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20, "bytes that no pixel needs were decompressed"


def test_data_that_end_before_their_own_checksum_are_an_error() -> None:
    compressed = zlib.compress(b"\0" * 72)
    with pytest.raises(ValueError, match="data does not match its size"):
        PlainPng((1, 8, 8)).scanlines(with_data(compressed[:-2]))


def test_rows_of_different_or_unknown_filters_are_left_to_a_decoder() -> None:
    plain = PlainPng((1, 8, 8))
    for kinds in (bytes([0, 1, 2, 3, 4, 0, 1, 2]), b"\4" * 8, b"\5" * 8):
        rows = b"".join(bytes([kind]) + bytes(8) for kind in kinds)
        assert plain.scanlines(with_data(zlib.compress(rows))) is None


@pytest.mark.parametrize("at", [45, -14])
def test_a_flipped_bit_in_the_data_or_its_checksum_is_an_error(at: int) -> None:
    content = bytearray(encode(RNG.integers(0, 256, (8, 8, 1), dtype=np.uint8)))
    content[at] ^= 1
    with pytest.raises(ValueError, match="checksum mismatch"):
        PlainPng((1, 8, 8)).scanlines(bytes(content))
    with pytest.raises(ValueError, match="a damaged PNG"):
        PlainPng((1, 8, 8)).scanlines(with_data(b"no zlib stream"))
