"""From the bytes of an image file to pixels, with nothing that a file could make it run."""

import io
import struct
import warnings

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8"
HEADER_BYTES = 1 << 16  # a JPEG's size stands behind its metadata, which may be large
TORCHVISION_MODES = {1: ImageReadMode.GRAY.value, 3: ImageReadMode.RGB.value}
PILLOW_MODES = {1: "L", 3: "RGB"}
JPEG_MODES = {1: "GRAY", 3: "RGB"}
Bytes = NDArray[np.uint8]


# The operator behind torchvision.io.decode_image: that logs each call, for a fifth of the time
# that a small image takes.
DECODE = torch.ops.image.decode_image.default
# It reads shards that are mapped read-only, and writes to none of them.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")


def image_size(content: bytes) -> tuple[int, int]:
    """Height and width in pixels that the file's header claims; `ValueError` if it has none."""
    if content.startswith(PNG_SIGNATURE) and len(content) >= 24:
        width, height = struct.unpack_from(">II", content, 16)
        return height, width
    if content.startswith(JPEG_SIGNATURE) and (size := _jpeg_size(content)) is not None:
        return size
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                return image.height, image.width
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from None


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Size in the frame header (ITU T.81, B.2.2): Pillow's own look takes half of a decoding."""
    position = 2
    while position + 9 <= len(content):
        marker, length = struct.unpack_from(">HH", content, position)
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            height, width = struct.unpack_from(">HH", content, position + 5)
            return height, width
        if not 0xFFC0 <= marker <= 0xFFFE:
            return None
        position += 2 + length
    return None


def decode(
    content: Bytes,
    header: bytes,
    shape: tuple[int, int, int],
    max_pixels: int,
    resize: bool = False,
    into: Bytes | None = None,
) -> Tensor:
    """Pixels of a PNG, JPEG or WebP file (1-D): uint8 of `shape` (channels, height, width).

    `header` is the file's beginning, `HEADER_BYTES` or all of it, which says its size. The pixels
    are also written `into` an array (height, width, channels), a JPEG's without a copy.
    Raises `ValueError` where the content is no such image, claims more than `max_pixels`
    (checked before any pixel is decoded) or has another size. With `resize` another size is
    brought to this one: the middle, by Lanczos.
    """
    size = image_size(header)
    if size[0] * size[1] > max_pixels:
        raise ValueError(f"{size[1]}×{size[0]} pixels are over data.max_pixels={max_pixels}")
    if size != shape[1:] and not resize:
        raise ValueError(f"{size[1]}×{size[0]} pixels in a set of {shape[2]}×{shape[1]}")
    jpeg = header.startswith(JPEG_SIGNATURE)
    if size != shape[1:]:
        image = _decode_resized(content, shape)
    elif jpeg:
        pixels = simplejpeg.decode_jpeg(content, JPEG_MODES[shape[0]], buffer=into)
        image = torch.from_numpy(pixels).permute(2, 0, 1)
    else:
        try:
            image = DECODE(torch.from_numpy(content), TORCHVISION_MODES[shape[0]], False)
        except RuntimeError as error:
            raise ValueError(str(error).splitlines()[0]) from None
    if image.shape != shape:  # two sizes in one file: the header's was not the decoder's
        raise ValueError(f"decodes to {tuple(image.shape)}")
    if into is not None and not (jpeg and size == shape[1:]):
        into[:] = image.permute(1, 2, 0).numpy()
    return image


def _decode_resized(content: Bytes, shape: tuple[int, int, int]) -> Tensor:
    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(content.tobytes())) as image:
            upright = ImageOps.exif_transpose(image).convert(PILLOW_MODES[channels])
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from None
    fitted = ImageOps.fit(upright, (width, height), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(fitted)).view(height, width, channels)
    return pixels.permute(2, 0, 1)


def decode_bytes(
    content: bytes, shape: tuple[int, int, int], max_pixels: int, resize: bool = False
) -> Tensor:
    """`decode` of a file's bytes."""
    if not content:
        raise ValueError("an empty file")
    array = np.frombuffer(bytearray(content), dtype=np.uint8)
    return decode(array, content[:HEADER_BYTES], shape, max_pixels, resize)
