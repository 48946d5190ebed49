"""Images that Pillow does not hold: of any number of channels, or of 16 bits in colour.

They are numpy arrays (height, width, channels), uint8 or uint16. They come from `.npy` files and
from TIFFs whose pages are channels, and are converted and resized here.
"""

import io
import re

import numpy as np
from PIL import Image

from ganscale.data.images import (
    DEEP_TO_BYTE,
    LOST_BITS,
    check_pixels,
    convert,
    count_channels,
    open_image,
    resize,
    turn_upright,
)
from ganscale.data.reading.png import Pixels
from ganscale.data.shards.manifest import MAX_CHANNELS

NPY = b"\x93NUMPY"
# What `numpy.save` writes of such an array. numpy's reader would evaluate it as a Python literal.
NPY_HEADER = re.compile(
    rb"\x93NUMPY[\1\2]\0.{2,4}?\{'descr': '([|<>=]u[12])', 'fortran_order': (True|False), "
    rb"'shape': \((\d{1,9}), (\d{1,9})(?:, (\d{1,9}))?\), \} *\n",
    re.DOTALL,
)
TIFF = (b"II*\0", b"MM\0*")
PAGE_MODES = ("L", "I;16", "I;16L", "I;16B", "I;16N")
ALPHA_MODES = {2: "LA", 4: "RGBA"}

AnyImage = Image.Image | Pixels


def open_any(content: bytes, max_pixels: int | None = None) -> AnyImage:
    """Decode an image file, a `.npy` array, or a TIFF of several grey pages, which are channels.

    Raises `ValueError` if the content is none of these, or damaged, or announces more than
    `max_pixels`, which is checked before any pixel is decoded.
    """
    if content.startswith(NPY):
        return parse_npy(content, max_pixels)
    if content.startswith(TIFF) and (pages := _read_pages(content, max_pixels)) is not None:
        return pages
    return open_image(content, max_pixels=max_pixels)


def parse_npy(content: bytes, max_pixels: int | None = None) -> Pixels:
    """Return the image in a `.npy` file: (H, W), (H, W, C) or (C, H, W), uint8 or uint16.

    The shorter of the first and the last axis are the channels. Nothing is unpickled or evaluated.
    Raises `ValueError` for anything else.
    """
    header = NPY_HEADER.match(content)
    if header is None:
        raise ValueError(
            "not a .npy file of one image: uint8 or uint16, of shape (H, W), (H, W, C) or (C, H, W)"
        )
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(side) for side in header.groups()[2:] if side is not None)
    sides = shape if len(shape) == 2 else (shape[1:] if shape[0] < shape[2] else shape[:2])
    if max_pixels is not None:
        check_pixels(sides[0], sides[1], max_pixels)
    values = content[header.end() :]
    number = int(np.prod(shape, dtype=object))
    if not number or len(values) != number * dtype.itemsize:
        raise ValueError(f"a damaged .npy file: {len(values):,} bytes for the shape {shape}")
    order = "F" if header[2] == b"True" else "C"
    array = np.frombuffer(values, dtype).reshape(shape, order=order)  # type: ignore[call-overload]
    array = array.astype(dtype.newbyteorder("="))
    if array.ndim == 2:
        array = array[:, :, None]
    elif shape[0] < shape[2]:
        array = np.moveaxis(array, 0, 2)
    if array.shape[2] > MAX_CHANNELS:
        raise ValueError(f"{array.shape[2]} channels; at most {MAX_CHANNELS} are accepted")
    return np.ascontiguousarray(array)


def _read_pages(content: bytes, max_pixels: int | None) -> Pixels | None:
    """Return the pages of a TIFF as channels if there are several, grey and of one size."""
    try:
        with Image.open(io.BytesIO(content), formats=("TIFF",)) as image:
            number = getattr(image, "n_frames", 1)
            first = (image.mode, image.size)
            if not 1 < number <= MAX_CHANNELS or image.mode not in PAGE_MODES:
                return None
            for page in range(number):
                image.seek(page)
                if (image.mode, image.size) != first:
                    return None  # smaller copies of the first page, for example
            check_pixels(image.height * number, image.width, max_pixels or 2**27)
            pages = []
            for page in range(number):
                image.seek(page)
                pages.append(np.array(image))
    except Exception as error:  # a damaged file can raise any exception inside Pillow
        raise ValueError(f"a damaged TIFF ({type(error).__name__}: {error})") from None
    dtype = np.uint8 if first[0] == "L" else np.uint16
    return np.stack(pages, axis=2).astype(dtype)


def size_of(image: AnyImage) -> tuple[int, int]:
    """Return height and width."""
    if isinstance(image, Image.Image):
        return image.height, image.width
    return image.shape[0], image.shape[1]


def channels_of(image: AnyImage) -> int:
    """Return the channels that a dataset keeps by default: those of an array, 1 or 3 else."""
    return count_channels(image) if isinstance(image, Image.Image) else image.shape[2]


def bits_of(image: AnyImage) -> int:
    """Return the bits of a value that a dataset keeps by default: 8 for a picture."""
    return 8 if isinstance(image, Image.Image) else 8 * image.itemsize


def with_channels(image: AnyImage, channels: int, bits: int) -> AnyImage:
    """Return an image with so many channels and bits; a grey or RGB picture remains one.

    Raises `ValueError` if that is not possible.
    """
    if isinstance(image, Image.Image) and channels in (1, 3) and bits == 8:
        return convert(image, channels)
    return to_array(image, channels, bits)


def to_array(image: AnyImage, channels: int, bits: int) -> Pixels:
    """Return an image with so many channels, of 8 or 16 bits.

    A picture becomes grey (1 channel), grey and alpha (2), RGB (3) or RGBA (4); an array has to
    have the channels already. Values are scaled so that the brightest remains the brightest.
    Raises `ValueError` if that is not possible.
    """
    pixels = _values(image, channels, bits) if isinstance(image, Image.Image) else image
    if pixels.shape[2] != channels:
        raise ValueError(f"it has {pixels.shape[2]} channels, in a dataset of {channels}")
    if bits == 16 and pixels.dtype == np.uint8:
        pixels = pixels.astype(np.uint16) * np.uint16(DEEP_TO_BYTE)
    if bits == 8 and pixels.dtype == np.uint16:
        pixels = (pixels / DEEP_TO_BYTE).round().astype(np.uint8)
    return pixels


def _values(image: Image.Image, channels: int, bits: int) -> Pixels:
    """Return a picture's values in the depth that it has; only 16 bits ask for more than eight."""
    if bits == 16 and image.info.get(LOST_BITS):
        raise ValueError(
            "16-bit colour, of which the decoder reads 8 bits; save it as .npy, or its channels as "
            "the pages of a TIFF"
        )
    if bits == 16 and image.mode.startswith("I;16") and channels in (1, 3):
        upright = turn_upright(image)
        deep: Pixels = np.asarray(upright).astype(np.uint16)[:, :, None]
        clear = image.info.get("transparency")
        if clear is not None:
            deep[deep == clear] = np.iinfo(np.uint16).max  # on white, as with 8 bits
        return np.repeat(deep, channels, axis=2)
    if channels in ALPHA_MODES:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"a picture of mode {image.mode} has no alpha channel")
        return np.asarray(turn_upright(image).convert(ALPHA_MODES[channels]))
    if channels not in (1, 3):
        raise ValueError(f"a picture, in a dataset of {channels} channels")
    converted = convert(image, channels)
    return np.asarray(converted).reshape(converted.height, converted.width, channels)


def resize_any(image: AnyImage, size: tuple[int, int], crop: bool = True) -> AnyImage:
    """Resize an image to (height, width) with a Lanczos filter: see `resize`."""
    if isinstance(image, Image.Image):
        return resize(image, size, crop)
    return resize_array(image, size, crop)


def resize_array(pixels: Pixels, size: tuple[int, int], crop: bool) -> Pixels:
    """Resize an array to (height, width) as `resize` does a picture, each channel by itself."""
    if pixels.shape[:2] == size:
        return pixels
    most = np.iinfo(pixels.dtype).max
    channels = [
        np.asarray(resize(Image.fromarray(channel.astype(np.float32)), size, crop))
        for channel in np.moveaxis(pixels, 2, 0)
    ]
    stacked = np.stack(channels, axis=2).round().clip(0, most)
    resized: Pixels = stacked.astype(pixels.dtype)
    return resized
