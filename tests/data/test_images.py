"""Files of every kind give the same pixels packed and indexed in place: those computed by hand."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganscale.config import Data
from ganscale.data.images import open_image
from ganscale.data.inspection import verify
from ganscale.data.packing.foreign_shards import index_shards
from ganscale.data.packing.pack import pack
from ganscale.data.packing.shard_writer import Packing
from ganscale.data.packing.sources import open_source
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.shards.manifest import load_manifest
from ganscale.errors import GanscaleError
from tests.data.forging import tar
from tests.data.packing.packed import quiet

SIDE = 16
RNG = np.random.default_rng(7)
DEEP = RNG.integers(0, 65536, (SIDE, SIDE), dtype=np.uint16)
DEEP[0, :4] = (0, 64, 40000, 65535)
GREY = RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
SMOOTH = np.asarray(Image.fromarray(COLOUR[:4, :4]).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def file(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_by_hand(
    rows: bytes,
    bits: int,
    colour_type: int,
    extra: tuple[tuple[bytes, bytes], ...] = (),
    interlace: int = 0,
) -> bytes:
    """A PNG of `SIDE`×`SIDE` pixels from its scanlines, by the standard alone."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", SIDE, SIDE, bits, colour_type, 0, 0, interlace)
    chunks = ((b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*pair) for pair in chunks)


def scanlines(rows: np.ndarray) -> bytes:
    """Rows of bytes, each after filter type 0."""
    return b"".join(b"\0" + row.tobytes() for row in rows)


def adam7(pixels: np.ndarray) -> list[np.ndarray]:
    """The seven passes of an interlaced PNG (W3C PNG, section 8.2)."""
    starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))
    return [pixels[y::down, x::right] for y, x, down, right in (*starts, (1, 0, 2, 1))]


def few_bits(bits: int, clear: int | None = None) -> tuple[bytes, np.ndarray]:
    """A grey PNG of 1, 2 or 4 bits, and its pixels: the levels spread over 0 to 255.

    Pixels of level `clear` are transparent, which is said in 16 bits whose upper ones do not count.
    """
    levels = GREY >> (8 - bits)
    as_bits = (levels[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = np.packbits(as_bits.reshape(SIDE, -1), axis=1)
    upper = 0 if bits == 1 else 1 << 8  # Pillow has read those of one bit, and lost them
    extra = () if clear is None else ((b"tRNS", struct.pack(">H", clear + upper)),)
    pixels = np.where(levels == clear, 255, levels * (255 // (2**bits - 1)))
    return png_by_hand(scanlines(rows), bits, 0, extra), pixels


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return colour * share + 255 * (1 - share)


def turned(kind: str, orientation: int = 6) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return file(Image.fromarray(SMOOTH), kind, exif=exif, quality=95)


def plain(kind: str) -> np.ndarray:
    """The pixels of the same file as in `turned`, not turned."""
    return np.asarray(Image.open(io.BytesIO(turned(kind, 1))))


def animation(kind: str) -> bytes:
    frames = [Image.fromarray(255 - COLOUR), Image.new("RGB", (SIDE, SIDE))]
    options = {"lossless": True} if kind == "WEBP" else {}
    return file(
        Image.fromarray(COLOUR), kind, save_all=True, append_images=frames, duration=9, **options
    )


def jpeg(mode: str) -> tuple[bytes, np.ndarray]:
    """A JPEG and what Pillow makes of it."""
    content = file(Image.fromarray(SMOOTH).convert(mode), "JPEG", quality=95)
    return content, np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


PALETTE = Image.fromarray(SMOOTH).quantize(16)
PALETTE_PIXELS = np.array(PALETTE.getpalette()).reshape(-1, 3)[np.asarray(PALETTE)]
CLEAR = np.where(np.asarray(PALETTE) == 3, 0, 255)
DEEP_COLOUR = np.stack([DEEP, DEEP.T, DEEP[::-1]], axis=2)

KINDS: dict[str, tuple[str, bytes, np.ndarray]] = {
    "1-bit": ("png", *few_bits(1)),
    "2-bit": ("png", *few_bits(2)),
    "4-bit": ("png", *few_bits(4)),
    "1-bit with a transparent value": ("png", *few_bits(1, 0)),
    "2-bit with a transparent value": ("png", *few_bits(2, 1)),
    "4-bit with a transparent value": ("png", *few_bits(4, 9)),
    "8-bit with a transparent value": (
        "png",
        png_by_hand(scanlines(GREY), 8, 0, ((b"tRNS", struct.pack(">H", 256 + int(GREY[0, 0]))),)),
        np.where(GREY[0, 0] == GREY, 255, GREY),
    ),
    "colour with a transparent value": (
        "png",
        png_by_hand(
            scanlines(COLOUR.reshape(SIDE, -1)),
            8,
            2,
            ((b"tRNS", struct.pack(">3H", *(256 + COLOUR[3, 4].astype(int)).tolist())),),
        ),
        np.where((COLOUR[3, 4] == COLOUR).all(axis=2, keepdims=True), 255, COLOUR),
    ),
    "16-bit grey and alpha": (
        "png",
        png_by_hand(scanlines(np.dstack([DEEP, DEEP.T]).astype(">u2").reshape(SIDE, -1)), 16, 4),
        on_white(DEEP[..., None] >> 8, DEEP.T >> 8),
    ),
    "16-bit colour and alpha": (
        "png",
        png_by_hand(
            scanlines(np.dstack([DEEP_COLOUR, DEEP.T]).astype(">u2").reshape(SIDE, -1)), 16, 6
        ),
        on_white(DEEP_COLOUR >> 8, DEEP.T >> 8),
    ),
    "8-bit": ("png", file(Image.fromarray(GREY), "PNG"), GREY),
    "16-bit": ("png", file(Image.fromarray(DEEP), "PNG"), (DEEP / 257).round()),
    "16-bit colour": (
        "png",
        png_by_hand(scanlines(DEEP_COLOUR.astype(">u2").reshape(SIDE, -1)), 16, 2),
        DEEP_COLOUR >> 8,
    ),
    "16-bit with a transparent value": (
        "png",
        png_by_hand(scanlines(DEEP.astype(">u2")), 16, 0, ((b"tRNS", struct.pack(">H", 40000)),)),
        np.where(DEEP == 40000, 255, (DEEP / 257).round()),
    ),
    "colour": ("png", file(Image.fromarray(COLOUR), "PNG"), COLOUR),
    "interlaced": (
        "png",
        png_by_hand(b"".join(scanlines(part) for part in adam7(GREY)), 8, 0, interlace=1),
        GREY,
    ),
    "palette": ("png", file(PALETTE, "PNG"), PALETTE_PIXELS),
    "palette with a transparent entry": (
        "png",
        file(PALETTE, "PNG", transparency=3),
        on_white(PALETTE_PIXELS, CLEAR),
    ),
    "alpha": (
        "png",
        file(Image.fromarray(np.dstack([COLOUR, ALPHA])), "PNG"),
        on_white(COLOUR, ALPHA),
    ),
    "grey and alpha": (
        "png",
        file(Image.fromarray(np.dstack([GREY, ALPHA])), "PNG"),
        on_white(GREY[..., None], ALPHA),
    ),
    "WebP": ("webp", file(Image.fromarray(COLOUR), "WEBP", lossless=True), COLOUR),
    "animated PNG": ("png", animation("PNG"), COLOUR),
    "animated WebP": ("webp", animation("WEBP"), COLOUR),
    "JPEG": ("jpg", *jpeg("RGB")),
    "grey JPEG": ("jpg", *jpeg("L")),
    "CMYK JPEG": ("jpg", *jpeg("CMYK")),
    "turned JPEG": ("jpg", turned("JPEG"), np.rot90(plain("JPEG"), -1)),
    "turned PNG": ("png", turned("PNG"), np.rot90(SMOOTH, -1)),
    "turned WebP": ("webp", turned("WEBP"), np.rot90(plain("WEBP"), -1)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_packed_and_indexed_give_the_pixels_computed_by_hand(kind: str, tmp_path: Path) -> None:
    suffix, content, pixels = KINDS[kind]
    expected = np.atleast_3d(pixels)
    if expected.shape[2] == 1:
        expected = expected.repeat(3, axis=2)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / f"a.{suffix}").write_bytes(content)
    source = open_source(str(tmp_path / "files"))
    pack(source, tmp_path / "packed", Packing(channels=3), 1, quiet)
    # A colour image beside it makes the set one of colour.
    members = {f"a.{suffix}": content, "b.png": file(Image.fromarray(COLOUR), "PNG")}
    index_shards([str(tar(tmp_path / "x.tar", members))], tmp_path / "indexed")
    got = []
    for folder in ("packed", "indexed"):
        data = Data(path=str(tmp_path / folder), resolution=SIDE, channels=3)
        (image,) = ImageSet(data).reader().read(np.array([0])).images
        got.append(image.permute(1, 2, 0).numpy().astype(float))
    assert np.array_equal(*got)
    assert np.abs(got[0] - expected).max() <= 1  # rounding, of what is laid on white
    assert verify(str(tmp_path / "indexed"), load_manifest(tmp_path / "indexed"), 1) == []


def test_a_transparent_colour_of_16_bits_is_refused() -> None:
    """Pillow keeps eight bits of each, by which other pixels than the transparent ones match."""
    rows = scanlines(DEEP_COLOUR.astype(">u2").reshape(SIDE, -1))
    for clear in ((0, 0, 0), (40000, 7, 7)):
        content = png_by_hand(rows, 16, 2, ((b"tRNS", struct.pack(">3H", *clear)),))
        with pytest.raises(ValueError, match="16-bit colour with a transparent colour"):
            open_image(content)


@pytest.mark.parametrize("kind", ["1-bit", "16-bit", "grey and alpha", "grey JPEG"])
def test_grey_files_make_a_grey_set(kind: str, tmp_path: Path) -> None:
    suffix, content, _ = KINDS[kind]
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / f"a.{suffix}").write_bytes(content)
    packed, _ = pack(open_source(str(tmp_path / "files")), tmp_path / "set", Packing(), 1, quiet)
    indexed = index_shards([str(tar(tmp_path / "x.tar", {f"a.{suffix}": content}))], tmp_path)
    assert packed is not None
    assert packed.channels == indexed.channels == 1
    assert (packed.height, packed.width) == (indexed.height, indexed.width) == (SIDE, SIDE)


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_is_made_grey_in_one_way(channels: int, tmp_path: Path) -> None:
    """libjpeg's own grey is not what Pillow computes from RGB."""
    content, pixels = jpeg("RGB")
    index_shards([str(tar(tmp_path / "x.tar", {"a.jpg": content}))], tmp_path)
    manifest = load_manifest(tmp_path)
    manifest.model_copy(update={"channels": channels}).save(tmp_path)
    data = Data(path=str(tmp_path), resolution=SIDE, channels=channels)
    (image,) = ImageSet(data).reader().read(np.array([0])).images
    shown = Image.fromarray(pixels).convert("L" if channels == 1 else "RGB")
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.atleast_3d(np.asarray(shown)))


def test_sixteen_bits_are_scaled_before_they_are_resized(tmp_path: Path) -> None:
    deep = file(Image.fromarray(np.full((20, 24), 40000, np.uint16)), "PNG")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.png").write_bytes(deep)
    pack(open_source(str(tmp_path / "files")), tmp_path / "packed", Packing(size=8), 1, quiet)
    index_shards(
        [str(tar(tmp_path / "x.tar", {"a.png": deep, "b.png": KINDS["16-bit"][1]}))],
        tmp_path / "indexed",
    )
    for folder in ("packed", "indexed"):
        images = ImageSet(Data(path=str(tmp_path / folder), resolution=8)).reader()
        assert images.read(np.array([0])).images.unique().tolist() == [156]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_of_32_bits_are_refused_for_no_file_says_their_range(
    tmp_path: Path, dtype: type
) -> None:
    (tmp_path / "files").mkdir()
    Image.fromarray(DEEP.astype(dtype)).save(tmp_path / "files" / "a.tif")
    with pytest.raises(GanscaleError, match=r"32-bit pixels .* no agreed range"):
        pack(open_source(str(tmp_path / "files")), tmp_path / "set", Packing(), 1, quiet)


def test_sixteen_bit_tiffs_are_scaled(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    Image.fromarray(DEEP).save(tmp_path / "files" / "a.tif")
    pack(open_source(str(tmp_path / "files")), tmp_path / "set", Packing(), 1, quiet)
    reader = ImageSet(Data(path=str(tmp_path / "set"), resolution=SIDE)).reader()
    (image,) = reader.read(np.array([0])).images
    assert np.array_equal(image[0].numpy(), (DEEP / 257).round())


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_grey_sets_of_every_format_are_read_again(kind: str, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    Image.fromarray(SMOOTH).convert("L").save(tmp_path / "files" / "a.png")
    pack(open_source(str(tmp_path / "files")), tmp_path / "set", Packing(format=kind), 1, quiet)
    reader = ImageSet(Data(path=str(tmp_path / "set"), resolution=SIDE)).reader()
    (image,) = reader.read(np.array([0])).images
    grey = np.asarray(Image.fromarray(SMOOTH).convert("L")).astype(float)
    assert np.abs(image[0].numpy() - grey).max() <= (8 if kind == "jpg" else 0)
