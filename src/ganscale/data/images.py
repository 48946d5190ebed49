"""The one conversion from the bytes of an image file to 8-bit grey or RGB pixels.

`ganscale pack` and the readers of shards that were indexed in place both use it, so the same file
gives the same pixels on either way.
"""

import io
import warnings
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

EXIF_ORIENTATION = 0x0112
LOST_BITS = "ganscale: 16-bit colour of which 8 bits were read"  # a key of an image's info
QUARTER_TURNS = range(5, 9)
ORIENTATION_MARKS = (b"eXIf", b"Exif", b"EXIF", b"Orientation", b"Raw profile type")
SHARD_FORMATS = ("PNG", "JPEG", "WEBP")
FILE_FORMATS = (*SHARD_FORMATS, "BMP", "GIF", "TIFF")  # never EPS, which starts Ghostscript
JPEG_SIGNATURE = b"\xff\xd8"
START_OF_SCAN = 0xFFDA  # ITU T.81, table B.1
MAX_SCANS = 100  # encoders write about ten
DEEP_TO_BYTE = 257  # 65535 / 255
# A damaged file either raises an error or is usable: Pillow's warnings would only fill the log.
warnings.filterwarnings("ignore", module=r"PIL\.")
GREY_BITS = {"L;2": 2, "L;4": 4}  # Pillow's raw mode of a PNG -> bits per pixel
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F"})


def open_image(
    content: bytes, formats: tuple[str, ...] = FILE_FORMATS, max_pixels: int | None = None
) -> Image.Image:
    """Decode an image file; of an animation, decode the first frame.

    Raises `ValueError` if the content is not a complete image in one of the formats, or if its
    header announces more than `max_pixels`. That is checked before any pixel is decoded.
    """
    refuse_scan_bomb(content)
    try:
        image = Image.open(io.BytesIO(content), formats=formats)
        if max_pixels is not None:
            check_pixels(image.height, image.width, max_pixels)
        stored = str(image.tile[0][3]) if image.format == "PNG" and image.tile else ""
        deep = bool(image.tile) and ";16" in str(image.tile[0][3])
        image.load()
        if deep and not image.mode.startswith("I"):
            image.info[LOST_BITS] = True
        _rescale_transparency(image, stored)
    except Image.DecompressionBombError as error:  # Pillow's own limit
        raise ValueError(str(error).partition(",")[0]) from None
    except Exception as error:  # a damaged file can raise any exception inside Pillow
        raise ValueError(_reason(error)) from None
    return image


def refuse_scan_bomb(content: bytes) -> None:
    """Raise `ValueError` for a JPEG with very many scans: each costs as much time as an image."""
    if not content.startswith(JPEG_SIGNATURE):
        return
    # Compressed data never contains the marker; a thumbnail or a colour profile rarely does.
    scans = content.count(START_OF_SCAN.to_bytes(2, "big"))
    if scans > MAX_SCANS:
        raise ValueError(f"a JPEG with {scans:,} scans; at most {MAX_SCANS} are accepted")


def check_pixels(height: int, width: int, max_pixels: int) -> None:
    """Raise `ValueError` if an image has more pixels than allowed."""
    if height * width > max_pixels:
        raise ValueError(f"{width}×{height} pixels exceed data.max_pixels={max_pixels}")


def count_channels(image: Image.Image) -> Literal[1, 3]:
    """Return 1 for a grey image and 3 for a colour image."""
    return 1 if image.mode in GREY_MODES or image.mode.startswith("I;16") else 3


def turn_upright(image: Image.Image) -> Image.Image:
    """Rotate and mirror an image as its EXIF orientation says.

    Raises `ValueError` if the EXIF data cannot be read.
    """
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:
        raise ValueError(f"its EXIF data cannot be read ({_reason(error)})") from None


def read_header(content: bytes) -> tuple[int, int, Literal[1, 3]]:
    """Return the height and width of the upright image and its channels, without decoding it.

    Raises `ValueError` if the content does not begin with the header of a supported image.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=SHARD_FORMATS)
        turned = False
        # `getexif` would decode a whole PNG that has no EXIF data.
        if any(mark in content for mark in ORIENTATION_MARKS):
            turned = image.getexif().get(EXIF_ORIENTATION, 1) in QUARTER_TURNS
    except Exception as error:
        raise ValueError(_reason(error)) from None
    height, width = (image.width, image.height) if turned else (image.height, image.width)
    return height, width, count_channels(image)


def convert(image: Image.Image, channels: int) -> Image.Image:
    """Turn an image upright and convert it to 8-bit grey (1 channel) or RGB (3 channels).

    Transparent pixels are composited on white, and 16-bit values are scaled to 8 bits. Raises
    `ValueError` for 32-bit pixels, integer or float, because no file states their range.
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
    """Convert 16-bit grey to 8 bits; pixels of the transparent value become white."""
    # Pillow before 11 opened 16-bit PNGs in 32 bits.
    if not (image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")):
        raise ValueError(
            f"32-bit pixels (mode {image.mode}) have no agreed range; save it with 8 or 16 bits"
        )
    deep = np.asarray(image).astype(np.uint16)
    pixels = (deep / DEEP_TO_BYTE).round().astype(np.uint8)
    clear = image.info.get("transparency")
    if clear is not None:
        pixels[deep == clear] = 255
    return Image.fromarray(pixels)


def _rescale_transparency(image: Image.Image, stored: str) -> None:
    """Scale the transparent value of a PNG like its pixels; `stored` is Pillow's raw mode.

    Pillow scales grey of 2 or 4 bits to the range 0 to 255, but not the transparent value. Raises
    `ValueError` for 16-bit colour: Pillow keeps eight bits of each value, too few to tell which
    pixels are transparent.
    """
    clear = image.info.get("transparency")
    if clear is None:
        return
    if stored == "RGB;16B":
        raise ValueError("16-bit colour with a transparent colour; save it with an alpha channel")
    if stored in GREY_BITS:
        highest = 2 ** GREY_BITS[stored] - 1  # the standard ignores bits beyond those of a pixel
        image.info["transparency"] = (clear & highest) * (255 // highest)


def resize(image: Image.Image, size: tuple[int, int], crop: bool = True) -> Image.Image:
    """Resize an image to (height, width) with a Lanczos filter.

    With `crop` the centre is cut to the aspect ratio; without it the whole image is kept and
    padded with black.
    """
    height, width = size
    if image.size == (width, height):
        return image
    fit = ImageOps.fit if crop else ImageOps.pad
    return fit(image, (width, height), Image.Resampling.LANCZOS)


def describe_conversion(image: Image.Image) -> str:
    """Name what had to be converted about an image, for a summary; empty if nothing."""
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
        return "not an image in a supported format"
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
