"""Grids of images as PNG files."""

import io
from pathlib import Path

from ganscale.files import write_output
from ganscale.monitoring.grids import Pixels, grid


def columns_of_classes(number: int, classes: int | None) -> int | None:
    """Return how many columns make a grid of samples, whose classes take turns, about square.

    It is a multiple of the classes, so that a column holds one class; None without classes.
    """
    return classes and classes * max(1, round(number**0.5 / classes))


def save_grid(images: Pixels, path: Path, columns: int | None = None) -> Path:
    """Write a grid of images (N, H, W, C) as a PNG file, atomically."""
    buffer = io.BytesIO()
    grid(images, columns).save(buffer, "PNG")
    return write_output(path, buffer.getvalue())
