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
LEGIBLE = 112  # pixels: smaller images are enlarged to at least this side,
LARGEST = 1024  # but no picture beyond this side

Pixels = NDArray[np.uint8]


def grid(images: Pixels, columns: int | None = None) -> Image.Image:
    """Put uint8 images (N, H, W, C) into one picture, row after row, as square as it goes.

    Small images are enlarged by a whole factor, so that every pixel stays a square.
    """
    number, height, width, channels = images.shape
    columns = columns or ceil(number**0.5)
    rows = -(-number // columns)
    cells = np.full(
        (rows * columns, height + BORDER, width + BORDER, channels), BORDER_GREY, np.uint8
    )
    cells[:number, BORDER:, BORDER:] = images
    table = cells.reshape(rows, columns, *cells.shape[1:]).swapaxes(1, 2)
    picture = table.reshape(rows * cells.shape[1], columns * cells.shape[2], channels)
    edged = np.pad(picture, ((0, BORDER), (0, BORDER), (0, 0)), constant_values=BORDER_GREY)
    whole = Image.fromarray(edged if channels == 3 else edged[:, :, 0])
    factor = max(1, min(ceil(LEGIBLE / max(height, width)), LARGEST // max(whole.size)))
    return whole.resize((factor * whole.width, factor * whole.height), Image.Resampling.NEAREST)


def save_grid(images: Pixels, path: Path, columns: int | None = None) -> Path:
    """Write a grid of uint8 images; whole or not at all."""
    buffer = io.BytesIO()
    grid(images, columns).save(buffer, "PNG")
    return write_output(path, buffer.getvalue())
