"""Grids of images as PNG files."""

import io
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganscale.files import write_output

BORDER = 1  # pixels between images
BORDER_GREY = 64
MIN_IMAGE_SIDE = 112  # pixels; smaller images are enlarged at least to this side,
MAX_PICTURE_SIDE = 1024  # unless the picture would exceed this side

Pixels = NDArray[np.uint8]


def grid(images: Pixels, columns: int | None = None) -> Image.Image:
    """Arrange uint8 images (N, H, W, C) row by row in one picture that is about square.

    Small images are enlarged by an integer factor, so that every pixel stays a square.
    """
    number, height, width, channels = images.shape
    columns = columns or max(1, min(number, ceil((number * height / width) ** 0.5)))
    rows = -(-number // columns)
    cells = np.full(
        (rows * columns, height + BORDER, width + BORDER, channels), BORDER_GREY, np.uint8
    )
    cells[:number, BORDER:, BORDER:] = images
    table = cells.reshape(rows, columns, *cells.shape[1:]).swapaxes(1, 2)
    picture = table.reshape(rows * cells.shape[1], columns * cells.shape[2], channels)
    padded = np.pad(picture, ((0, BORDER), (0, BORDER), (0, 0)), constant_values=BORDER_GREY)
    small = Image.fromarray(padded if channels == 3 else padded[:, :, 0])
    wanted = ceil(MIN_IMAGE_SIDE / max(height, width))
    factor = max(1, min(wanted, MAX_PICTURE_SIDE // max(small.size)))
    return small.resize((factor * small.width, factor * small.height), Image.Resampling.NEAREST)


def save_grid(images: Pixels, path: Path, columns: int | None = None) -> Path:
    """Write a grid of uint8 images (N, H, W, C) as a PNG file, atomically."""
    buffer = io.BytesIO()
    grid(images, columns).save(buffer, "PNG")
    return write_output(path, buffer.getvalue())
