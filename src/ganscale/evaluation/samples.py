"""Samples as numpy pixels, and classes drawn in proportion."""

import torch
from torch import Tensor

from ganscale import randomness
from ganscale.data.reading.png import Pixels
from ganscale.devices import float64_device


def pixels(images: Tensor) -> Pixels:
    """Return uint8 or uint16 images (N, C, H, W) as a numpy array (N, H, W, C)."""
    array: Pixels = images.permute(0, 2, 3, 1).numpy()
    return array


def drawn_labels(
    shares: Tensor, seed: int, purpose: str, step: int, rows: range, device: torch.device
) -> Tensor:
    """Draw classes (len(rows),), int64, for some rows of a batch, in proportion to `shares`.

    `shares` (classes,) need not sum to 1.
    """
    # Summed on the host, so that no device rounds the sums in another way.
    shares = shares.double().cpu()
    where = float64_device(device)
    ends = (shares.cumsum(0) / shares.sum()).to(where)
    unit = randomness.uniform(seed, purpose, step, rows, (), where).double()
    return torch.searchsorted(ends, unit, right=True).clamp(max=len(shares) - 1).to(device)
