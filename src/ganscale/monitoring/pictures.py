"""Grids of images as PNG files."""

from math import ceil
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] to pixels 0 … 255, rounded to the nearest, on the host."""
    return ((images.float() + 1) * 127.5).round_().clamp_(0, 255).to("cpu", torch.uint8)


def grid(images: Tensor, columns: int | None = None) -> Image.Image:
    """Uint8 images (N, C, H, W) in one picture, as square as it goes."""
    columns = columns or ceil(len(images) ** 0.5)
    table = make_grid(images, nrow=columns, padding=1, pad_value=64)
    return Image.fromarray(table.permute(1, 2, 0).numpy())


def save_grid(images: Tensor, path: Path, columns: int | None = None) -> Path:
    """Write a grid of uint8 images; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    grid(images, columns).save(temporary, "PNG")
    return temporary.replace(path)
