"""From the bytes of an image file to pixels, with nothing that a file could make it run."""

import io
import struct
import warnings

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TORCHVISION_MODES = {1: ImageReadMode.GRAY, 3: ImageReadMode.RGB}
PILLOW_MODES = {1: "L", 3: "RGB"}


def image_size(content: bytes) -> tuple[int, int]:
    """Height and width in pixels that the file's header claims; `ValueError` if it has none."""
    if content.startswith(PNG_SIGNATURE) and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return height, width
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                return image.height, image.width
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from None


def decode(
    content: bytes, shape: tuple[int, int, int], max_pixels: int, resize: bool = False
) -> Tensor:
    """Pixels of a PNG, JPEG or WebP file: uint8 of `shape` (channels, height, width).

    Raises `ValueError` where the content is no such image, claims more than `max_pixels`
    (checked before any pixel is decoded) or has another size. With `resize` another size is
    brought to this one: the middle, by Lanczos.
    """
    size = image_size(content)
    if size[0] * size[1] > max_pixels:
        raise ValueError(f"{size[1]}×{size[0]} pixels are over data.max_pixels={max_pixels}")
    if size != shape[1:]:
        if resize:
            return _decode_resized(content, shape)
        raise ValueError(f"{size[1]}×{size[0]} pixels in a set of {shape[2]}×{shape[1]}")
    buffer = torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy())
    try:
        image: Tensor = decode_image(buffer, TORCHVISION_MODES[shape[0]])
    except RuntimeError as error:
        raise ValueError(str(error).splitlines()[0]) from None
    return image


def _decode_resized(content: bytes, shape: tuple[int, int, int]) -> Tensor:
    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(content)) as image:
            upright = ImageOps.exif_transpose(image).convert(PILLOW_MODES[channels])
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from None
    fitted = ImageOps.fit(upright, (width, height), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(fitted)).view(height, width, channels)
    return pixels.permute(2, 0, 1)
