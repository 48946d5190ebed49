"""Bicubic resizing as Pillow does it, which papers' scores depend on (Parmar et al. 2022).

Pillow widens the filter when it makes an image smaller, so that nothing aliases. PyTorch's
`antialias=True` is the same filter, and runs on the images' device.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_bicubic(images: Tensor, height: int, width: int) -> Tensor:
    """Resize pixels (N, C, H, W), float32, to (N, C, height, width), 0 to 255, not rounded.

    This is Pillow's resizing of float32 images, each channel by itself, cut off at 0 and 255.
    """
    return _bicubic(images, height, width).clamp(0, 255)


def resize_bicubic_rounded(images: Tensor, height: int, width: int) -> Tensor:
    """Resize pixels (N, C, H, W), float32, to (N, C, height, width), whole numbers.

    This is Pillow's resizing of 8-bit images, which rounds twice: after it has changed the width,
    and after the height. (Pillow 13 begins with the height in some cases.)
    """
    widened = _round(_bicubic(images, images.shape[2], width))
    return _round(_bicubic(widened, height, width))


def _bicubic(images: Tensor, height: int, width: int) -> Tensor:
    size = (height, width)
    if images.shape[2:] == size:
        return images
    return F.interpolate(images, size=size, mode="bicubic", antialias=True, align_corners=False)


def _round(images: Tensor) -> Tensor:
    """Round to the nearest whole number, halves up, within 0 and 255."""
    return torch.floor(images + 0.5).clamp(0, 255)
