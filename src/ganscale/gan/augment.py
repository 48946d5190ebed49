"""Differentiable augmentation of what the discriminator sees, so that few images go further.

`color`, `translation` and `cutout` are DiffAugment's (Zhao et al. 2020); the others are the pixel,
geometric and colour transformations of ADA (Karras et al. 2020, appendix B) without its wavelet
filters. Each takes images (N, C, H, W) in [-1, 1] and `random`, a function that returns uniform
numbers in [0, 1) of shape (N, *shape), and returns images of the same shape.

To add a transformation, register a function here, or name a function in a file of your own in the
experiment: `augment.policy: [flip, my_transformations.py:blur]`.
"""

from collections.abc import Callable, Sequence
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

from ganscale.registry import Registry

Uniform = Callable[[tuple[int, ...]], Tensor]
Transform = Callable[[Tensor, Uniform], Tensor]

SHIFT = 1 / 8  # of the side, in either direction
CUTOUT = 1 / 2  # of the side

TRANSFORMS = Registry[Transform](
    "transformation",
    "ganscale.transformations",
    wanted="a function of images and random",
    accepts=callable,
)


def augment(
    images: Tensor, policy: Sequence[Transform], probability: float, random: Uniform
) -> Tensor:
    """Apply each transformation of the policy to each image with that probability."""
    for transform in policy:
        # Drawn first, so that the same image is chosen whatever a transformation draws.
        chosen = random((1, 1, 1)) < probability
        images = torch.where(chosen, transform(images, random), images)
    return images


# -- DiffAugment -------------------------------------------------------------------------------


@TRANSFORMS.register("color")
def color(images: Tensor, random: Uniform) -> Tensor:
    """Brightness by ±½, saturation by 0 … 2, contrast by ½ … 1½."""
    brightness, saturation, contrast = random((3, 1, 1, 1)).unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + 2 * saturation * (images - grey)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (contrast + 0.5) * (images - mean)


@TRANSFORMS.register("translation")
def translation(images: Tensor, random: Uniform) -> Tensor:
    """Move by up to an eighth of the side; what comes in is grey."""
    side = images.shape[-1]
    most = int(side * SHIFT + 0.5)
    dy, dx = _integers(random((2, 1)), -most, most).unbind(1)
    along = torch.arange(side, device=images.device)
    rows, columns = along + dy, along + dx
    inside = ((rows >= 0) & (rows < side))[:, None, :, None]
    inside = inside & ((columns >= 0) & (columns < side))[:, None, None, :]
    moved = _take(images, rows.clamp(0, side - 1), columns.clamp(0, side - 1))
    return torch.where(inside, moved, 0.0)


@TRANSFORMS.register("cutout")
def cutout(images: Tensor, random: Uniform) -> Tensor:
    """Grey out a square of half the side, centred anywhere."""
    side = images.shape[-1]
    half = side * CUTOUT / 2
    y, x = (random((2, 1)) * side).unbind(1)
    along = torch.arange(side, device=images.device) + 0.5
    rows, columns = (along - y).abs() < half, (along - x).abs() < half
    return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], 0.0, images)


# -- ADA: pixels and geometry ------------------------------------------------------------------


@TRANSFORMS.register("flip")
def flip(images: Tensor, random: Uniform) -> Tensor:
    """Mirror left and right, every other time."""
    return torch.where(random((1, 1, 1)) < 0.5, images.flip(3), images)


@TRANSFORMS.register("rotate90")
def rotate90(images: Tensor, random: Uniform) -> Tensor:
    """Turn by 0, 90, 180 or 270 degrees."""
    turns = _integers(random((1, 1, 1)), 0, 3)
    turned = images
    for k in (1, 2, 3):
        turned = torch.where(turns == k, torch.rot90(images, k, (2, 3)), turned)
    return turned


@TRANSFORMS.register("shift")
def shift(images: Tensor, random: Uniform) -> Tensor:
    """Move by up to an eighth of the side; what comes in is the mirror image."""
    side = images.shape[-1]
    most = int(side * SHIFT)
    dy, dx = _integers(random((2, 1)), -most, most).unbind(1)
    along = torch.arange(side, device=images.device)
    return _take(images, _reflected(along + dy, side), _reflected(along + dx, side))


@TRANSFORMS.register("scale")
def scale(images: Tensor, random: Uniform) -> Tensor:
    """Enlarge by 2 to the power of N(0, 0.2)."""
    size = torch.exp2(-0.2 * _normal(random((1,))))[:, :, None]
    return _transformed(images, size * torch.eye(2, device=images.device))


@TRANSFORMS.register("rotate")
def rotate(images: Tensor, random: Uniform) -> Tensor:
    """Turn by any angle."""
    angle = (2 * random((1,)) - 1) * pi
    sine, cosine = torch.sin(angle), torch.cos(angle)
    return _transformed(images, torch.cat([cosine, -sine, sine, cosine], 1).view(-1, 2, 2))


# -- ADA: colour -------------------------------------------------------------------------------


@TRANSFORMS.register("brightness")
def brightness(images: Tensor, random: Uniform) -> Tensor:
    """Add N(0, 0.2)."""
    return images + 0.2 * _normal(random((1, 1, 1)))


@TRANSFORMS.register("contrast")
def contrast(images: Tensor, random: Uniform) -> Tensor:
    """Multiply by 2 to the power of N(0, 0.5)."""
    return images * torch.exp2(0.5 * _normal(random((1, 1, 1))))


@TRANSFORMS.register("hue_saturation")
def hue_saturation(images: Tensor, random: Uniform) -> Tensor:
    """Turn colours about the grey axis by any angle, saturate by 2 to the power of N(0, 1)."""
    if images.shape[1] != 3:
        return images
    angle, strength = random((2, 1, 1, 1)).unbind(1)
    angle = (2 * angle - 1) * pi
    grey = images.mean(1, keepdim=True).expand_as(images)
    colour = images - grey
    # Rodrigues' rotation about (1, 1, 1)/√3, whose cross product swaps channels in a ring.
    across = (colour.roll(1, 1) - colour.roll(-1, 1)) / 3**0.5
    turned = torch.cos(angle) * colour + torch.sin(angle) * across
    return grey + torch.exp2(_normal(strength)) * turned


# -- what they share ---------------------------------------------------------------------------


def _integers(unit: Tensor, low: int, high: int) -> Tensor:
    """Uniform numbers in [0, 1] to integers low … high."""
    return (low + torch.floor(unit * (high - low + 1))).clamp(max=high).long()


def _normal(unit: Tensor) -> Tensor:
    """Uniform numbers in [0, 1] to standard normal ones."""
    normal: Tensor = torch.special.ndtri(unit.clamp(1e-6, 1 - 1e-6))
    return normal


def _reflected(positions: Tensor, side: int) -> Tensor:
    """Positions beyond an edge, mirrored at the outermost pixel."""
    last = side - 1
    return last - (last - positions.abs()).abs()


def _take(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """For each image the pixels at these rows (N, H) and columns (N, W)."""
    number, channels, height, width = images.shape
    by_row = images.gather(2, rows[:, None, :, None].expand(number, channels, -1, width))
    return by_row.gather(3, columns[:, None, None, :].expand(number, channels, height, -1))


def _transformed(images: Tensor, matrices: Tensor) -> Tensor:
    """Each image seen through a 2×2 matrix about its centre, mirrored beyond its edges."""
    theta = F.pad(matrices, (0, 1))
    where = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(
        images.float(), where.float(), padding_mode="reflection", align_corners=False
    ).to(images.dtype)
