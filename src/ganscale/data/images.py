"""From the bytes of an image file to 8 bits of grey or RGB: the one conversion for all that read.

What `ganscale pack` writes into a shard and what a reader makes of the same file in a shard that
was indexed in place are the same pixels, since both are computed here.
"""

import io
import warnings
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

EXIF_ORIENTATION = 0x0112
QUARTER_TURNS = range(5, 9)
ORIENTATION_MARKS = (b"eXIf", b"Exif", b"EXIF", b"Orientation", b"Raw profile type")
SHARD_FORMATS = ("PNG", "JPEG", "WEBP")
FILE_FORMATS = (*SHARD_FORMATS, "BMP", "GIF", "TIFF")  # never EPS, which starts Ghostscript
JPEG_SIGNATURE = b"\xff\xd8"
SCAN_MARKER = b"\xff\xda"
MAX_SCANS = 100  # encoders write about ten
DEEP_TO_BYTE = 257  # 65535 / 255
# A damaged file is an error or none: Pillow's warnings would only fill the log.
warnings.filterwarnings("ignore", module=r"PIL\.")
GREY_BITS = {"L;2": 2, "L;4": 4}  # of a PNG's pixel
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F"})


def open_image(
    content: bytes, formats: tuple[str, ...] = FILE_FORMATS, max_pixels: int | None = None
) -> Image.Image:
    """The decoded image; of an animation its first frame.

    Raises `ValueError` where the content is no whole image of one of the formats, or claims more
    than `max_pixels`, which is checked before any pixel is decoded.
    """
    refuse_scan_bomb(content)
    try:
        image = Image.open(io.BytesIO(content), formats=formats)
        if max_pixels is not None:
            check_pixels(image.height, image.width, max_pixels)
        stored = str(image.tile[0][3]) if image.format == "PNG" and image.tile else ""
        image.load()
        _mend_transparency(image, stored)
    except Image.DecompressionBombError as error:
        limit = f"; its pixels are over data.max_pixels={max_pixels}" if max_pixels else ""
        raise ValueError(f"{error}{limit}") from None
    except Exception as error:  # a damaged file meets every exception of Python inside Pillow
        raise ValueError(_reason(error)) from None
    return image


def refuse_scan_bomb(content: bytes) -> None:
    """`ValueError` for a JPEG of very many scans: each costs as much time as an image."""
    # Compressed data never hold the marker, an embedded thumbnail or colour profile rarely.
    if content.startswith(JPEG_SIGNATURE) and (scans := content.count(SCAN_MARKER)) > MAX_SCANS:
        raise ValueError(f"a JPEG of {scans:,} scans; {MAX_SCANS} are the most")


def check_pixels(height: int, width: int, max_pixels: int) -> None:
    """`ValueError` where an image claims more pixels than are allowed."""
    if height * width > max_pixels:
        raise ValueError(f"{width}×{height} pixels are over data.max_pixels={max_pixels}")


def count_channels(image: Image.Image) -> Literal[1, 3]:
    """1 for grey images, 3 for colour."""
    return 1 if image.mode in GREY_MODES or image.mode.startswith("I;16") else 3


def turn_upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF says; `ValueError` where that cannot be read."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:
        raise ValueError(f"its EXIF cannot be read ({_reason(error)})") from None


def read_header(content: bytes) -> tuple[int, int, Literal[1, 3]]:
    """Height and width as the image stands upright, and channels, without decoding it.

    Raises `ValueError` where it has no such header.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=SHARD_FORMATS)
        turned = False
        # Asked for its EXIF, Pillow decodes a PNG that has none.
        if any(mark in content for mark in ORIENTATION_MARKS):
            turned = image.getexif().get(EXIF_ORIENTATION, 1) in QUARTER_TURNS
    except Exception as error:
        raise ValueError(_reason(error)) from None
    height, width = (image.width, image.height) if turned else (image.height, image.width)
    return height, width, count_channels(image)


def convert(image: Image.Image, channels: int) -> Image.Image:
    """The image upright, in 8 bits of grey (1 channel) or RGB (3), on white where it is clear.

    16 bits become 8 by scaling. Raises `ValueError` for pixels of 32 bits, integer or float,
    whose range no file says.
    """
    image = turn_upright(image)
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode and "transparency" not in image.info:
        return image
    try:
        if image.mode.startswith(("I", "F")):
            image = _from_deep(image)
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            rgba = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return image.convert(mode)
    except Exception as error:
        raise ValueError(_reason(error)) from None


def _from_deep(image: Image.Image) -> Image.Image:
    """Grey of 16 bits in 8; a transparent value is laid on white."""
    # Pillow before 11 opened 16-bit PNGs in 32 bits.
    if not (image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")):
        raise ValueError(
            f"pixels of 32 bits (mode {image.mode}) have no agreed range; save it in 8 or 16 bits"
        )
    deep = np.asarray(image).astype(np.uint16)
    pixels = (deep / DEEP_TO_BYTE).round().astype(np.uint8)
    clear = image.info.get("transparency")
    if clear is not None:
        pixels[deep == clear] = 255
    return Image.fromarray(pixels)


def _mend_transparency(image: Image.Image, stored: str) -> None:
    """Make the transparent value of a PNG `stored` so (Pillow's name of it) that of its pixels.

    Pillow spreads grey of few bits over 0 to 255, but not that value. `ValueError` for colour of
    16 bits, of which it keeps eight: too few to tell which pixels have the value.
    """
    clear = image.info.get("transparency")
    if clear is None:
        return
    if stored == "RGB;16B":
        raise ValueError("16-bit colour with a transparent colour; save it with an alpha channel")
    if stored in GREY_BITS:
        most = 2 ** GREY_BITS[stored] - 1  # bits beyond those of a pixel do not count
        image.info["transparency"] = (clear & most) * (255 // most)


def resize(image: Image.Image, size: tuple[int, int], crop: bool = True) -> Image.Image:
    """The image in this (height, width), by Lanczos: its middle, or all of it on black."""
    height, width = size
    if image.size == (width, height):
        return image
    fit = ImageOps.fit if crop else ImageOps.pad
    return fit(image, (width, height), Image.Resampling.LANCZOS)


def describe_conversion(image: Image.Image) -> str:
    """What is special about an image, for a summary; empty where nothing is."""
    if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
        return "rotated by EXIF"
    if image.mode.startswith("I"):
        return "16-bit"
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return "with transparency"
    return {"P": "palette", "CMYK": "CMYK", "1": "bilevel"}.get(image.mode, "")


def _reason(error: Exception) -> str:
    text = str(error).splitlines()
    if isinstance(error, ValueError) and text:
        return text[0]
    if "cannot identify image file" in str(error):
        return "no such image"
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
