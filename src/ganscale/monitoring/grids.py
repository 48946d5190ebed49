"""Images of any channels and bits as a screen shows them, and grids of them.

This file needs numpy and Pillow alone: what `ganscale export --format space` writes has a copy.
"""

from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BORDER = 1  # pixels between images
BORDER_GREY = 64
MIN_IMAGE_SIDE = 112  # pixels; smaller images are enlarged at least to this side,
MAX_PICTURE_SIDE = 1024  # unless the picture would exceed this side

Pixels = NDArray[np.uint8 | np.uint16]
DEEP_TO_BYTE = 257  # 65535 / 255


def show(images: Pixels) -> NDArray[np.uint8]:
    """Return images (N, H, W, C), of any channels and 8 or 16 bits, as uint8 (N, H, W, 1 or 3).

    Two channels are red and green; of more, the first three are red, green and blue. That a fourth
    is transparency is not known: it may be infrared.
    """
    if images.dtype != np.uint8:
        images = (images / DEEP_TO_BYTE).round().astype(np.uint8)
    shown = images.astype(np.uint8, copy=False)
    if shown.shape[3] in (1, 3):
        return shown
    missing = max(0, 3 - shown.shape[3])
    return np.pad(shown[..., :3], ((0, 0), (0, 0), (0, 0), (0, missing)))


def grid(images: Pixels, columns: int | None = None) -> Image.Image:
    """Arrange images (N, H, W, C), as `show` shows them, in one picture that is about square.

    Small images are enlarged by an integer factor, so that every pixel stays a square.
    """
    shown = show(images)
    number, height, width, channels = shown.shape
    columns = columns or max(1, min(number, ceil((number * height / width) ** 0.5)))
    rows = -(-number // columns)
    cells = np.full(
        (rows * columns, height + BORDER, width + BORDER, channels), BORDER_GREY, np.uint8
    )
    cells[:number, BORDER:, BORDER:] = shown
    table = cells.reshape(rows, columns, *cells.shape[1:]).swapaxes(1, 2)
    picture = table.reshape(rows * cells.shape[1], columns * cells.shape[2], channels)
    padded = np.pad(picture, ((0, BORDER), (0, BORDER), (0, 0)), constant_values=BORDER_GREY)
    small = Image.fromarray(padded if channels == 3 else padded[:, :, 0])
    wanted = ceil(MIN_IMAGE_SIDE / max(height, width))
    factor = max(1, min(wanted, MAX_PICTURE_SIDE // max(small.size)))
    return small.resize((factor * small.width, factor * small.height), Image.Resampling.NEAREST)
