"""Differentiable augmentation for the discriminator, which helps to train on few images.

`color`, `translation` and `cutout` are from DiffAugment (Zhao et al. 2020). The others are the
pixel, geometric and colour transformations of ADA (Karras et al. 2020, appendix B), without its
wavelet filters. Each takes images (N, C, H, W) in [-1, 1] and `random`, a function that returns
uniform numbers in [0, 1) with shape (N, *shape), and returns images of the same shape.

To add a transformation, register a function here, or put a function in a file of your own and name
it in the experiment: `augment.policy: [flip, my_transformations.py:blur]`.
"""

from collections.abc import Callable, Sequence
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

from ganscale.registry import Registry

Uniform = Callable[[tuple[int, ...]], Tensor]
Transform = Callable[[Tensor, Uniform], Tensor]

SHIFT = 1 / 8  # largest shift along either side, as a fraction of that side
CUTOUT = 1 / 2  # sides of the rectangle, as a fraction of those of the image

COLOURS = "grey or RGB images, since other channels are no colours"

TRANSFORMS = Registry[Transform](
    "transformation",
    "ganscale.transformations",
    wanted="a function of images and random",
    accepts=callable,
)


def only_for(
    wanted: str, fits: Callable[[int, int, int], bool]
) -> Callable[[Transform], Transform]:
    """Mark a transformation of images with some (channels, height, width) only.

    An experiment with other images is refused, with a message that says what is `wanted`.
    """

    def mark(transform: Transform) -> Transform:
        transform.__dict__["about_shape"] = lambda *shape: None if fits(*shape) else wanted
        return transform

    return mark


def augment(
    images: Tensor, policy: Sequence[Transform], probability: float | Tensor, random: Uniform
) -> Tensor:
    """Apply each transformation of the policy to each image with this probability."""
    for transform in policy:
        # Drawn first, so that the choice does not depend on what a transformation draws.
        chosen = random((1, 1, 1)) < probability
        images = torch.where(chosen, transform(images, random), images)
    return images


# -- DiffAugment -------------------------------------------------------------------------------


@TRANSFORMS.register("color")
@only_for(f"{COLOURS}; use brightness and contrast", lambda channels, *_: channels in (1, 3))
def color(images: Tensor, random: Uniform) -> Tensor:
    """Change brightness by up to ±½, saturation by a factor of 0 to 2, contrast by ½ to 1½."""
    brightness, saturation, contrast = random((3, 1, 1, 1)).unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + 2 * saturation * (images - grey)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (contrast + 0.5) * (images - mean)


@TRANSFORMS.register("translation")
def translation(images: Tensor, random: Uniform) -> Tensor:
    """Move by up to an eighth of the side, and fill the uncovered area with grey."""
    height, width = images.shape[2:]
    rows, columns = _shifted(images, random, rounding=0.5)
    inside = ((rows >= 0) & (rows < height))[:, None, :, None]
    inside = inside & ((columns >= 0) & (columns < width))[:, None, None, :]
    moved = _take(images, rows.clamp(0, height - 1), columns.clamp(0, width - 1))
    return torch.where(inside, moved, 0.0)


@TRANSFORMS.register("cutout")
def cutout(images: Tensor, random: Uniform) -> Tensor:
    """Grey out a rectangle of half the image's height and width at a random position."""
    height, width = images.shape[2:]
    y, x = random((2, 1)).unbind(1)
    down = torch.arange(height, device=images.device) + 0.5
    across = torch.arange(width, device=images.device) + 0.5
    rows = (down - y * height).abs() < height * CUTOUT / 2
    columns = (across - x * width).abs() < width * CUTOUT / 2
    return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], 0.0, images)


# -- ADA: pixels and geometry ------------------------------------------------------------------


@TRANSFORMS.register("flip")
def flip(images: Tensor, random: Uniform) -> Tensor:
    """Mirror horizontally with probability ½."""
    return torch.where(random((1, 1, 1)) < 0.5, images.flip(3), images)


@TRANSFORMS.register("rotate90")
@only_for("square images, since a quarter turn exchanges the sides", lambda _, h, w: h == w)
def rotate90(images: Tensor, random: Uniform) -> Tensor:
    """Rotate by 0, 90, 180 or 270 degrees; only for square images."""
    turns = _integers(random((1, 1, 1)), 0, 3)
    turned = images
    for k in (1, 2, 3):
        turned = torch.where(turns == k, torch.rot90(images, k, (2, 3)), turned)
    return turned


@TRANSFORMS.register("shift")
def shift(images: Tensor, random: Uniform) -> Tensor:
    """Move by up to an eighth of the side, and fill the uncovered area with a reflection."""
    height, width = images.shape[2:]
    rows, columns = _shifted(images, random)
    return _take(images, _reflected(rows, height), _reflected(columns, width))


@TRANSFORMS.register("scale")
def scale(images: Tensor, random: Uniform) -> Tensor:
    """Enlarge by a factor of 2^s, where s is normal with standard deviation 0.2."""
    size = torch.exp2(-0.2 * _normal(random((1,))))[:, :, None]
    return _transformed(images, size * torch.eye(2, device=images.device))


@TRANSFORMS.register("rotate")
def rotate(images: Tensor, random: Uniform) -> Tensor:
    """Rotate by a random angle."""
    angle = (2 * random((1,)) - 1) * pi
    sine, cosine = torch.sin(angle), torch.cos(angle)
    return _transformed(images, torch.cat([cosine, -sine, sine, cosine], 1).view(-1, 2, 2))


# -- ADA: colour -------------------------------------------------------------------------------


@TRANSFORMS.register("brightness")
def brightness(images: Tensor, random: Uniform) -> Tensor:
    """Add one normal number, with standard deviation 0.2, to all pixels."""
    return images + 0.2 * _normal(random((1, 1, 1)))


@TRANSFORMS.register("contrast")
def contrast(images: Tensor, random: Uniform) -> Tensor:
    """Multiply by 2^s, where s is normal with standard deviation 0.5."""
    return images * torch.exp2(0.5 * _normal(random((1, 1, 1))))


@TRANSFORMS.register("hue_saturation")
@only_for(f"{COLOURS}; use brightness and contrast", lambda channels, *_: channels in (1, 3))
def hue_saturation(images: Tensor, random: Uniform) -> Tensor:
    """Rotate hue by a random angle, and multiply saturation by 2^s, where s is standard normal.

    Grey images are returned unchanged.
    """
    if images.shape[1] != 3:
        return images
    angle, strength = random((2, 1, 1, 1)).unbind(1)
    angle = (2 * angle - 1) * pi
    grey = images.mean(1, keepdim=True).expand_as(images)
    colour = images - grey
    # Rodrigues' rotation about (1, 1, 1)/√3, whose cross product permutes the channels cyclically.
    across = (colour.roll(1, 1) - colour.roll(-1, 1)) / 3**0.5
    turned = torch.cos(angle) * colour + torch.sin(angle) * across
    return grey + torch.exp2(_normal(strength)) * turned


# -- shared ------------------------------------------------------------------------------------


def _shifted(images: Tensor, random: Uniform, rounding: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the row (N, H) and the column (N, W) that each of an image's is moved to."""
    height, width = images.shape[2:]
    y, x = random((2, 1)).unbind(1)
    down, across = int(height * SHIFT + rounding), int(width * SHIFT + rounding)
    rows = torch.arange(height, device=images.device) + _integers(y, -down, down)
    return rows, torch.arange(width, device=images.device) + _integers(x, -across, across)


def _integers(unit: Tensor, low: int, high: int) -> Tensor:
    """Turn uniform numbers in [0, 1] into integers from `low` to `high`."""
    return (low + torch.floor(unit * (high - low + 1))).clamp(max=high).long()


def _normal(unit: Tensor) -> Tensor:
    """Turn uniform numbers in [0, 1] into standard normal numbers."""
    normal: Tensor = torch.special.ndtri(unit.clamp(1e-6, 1 - 1e-6))
    return normal


def _reflected(positions: Tensor, side: int) -> Tensor:
    """Reflect positions beyond an edge at the outermost pixel."""
    last = side - 1
    return last - (last - positions.abs()).abs()


def _take(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the pixels of each image at these rows (N, H) and columns (N, W)."""
    number, channels, height, width = images.shape
    by_row = images.gather(2, rows[:, None, :, None].expand(number, channels, -1, width))
    return by_row.gather(3, columns[:, None, None, :].expand(number, channels, height, -1))


def _transformed(images: Tensor, matrices: Tensor) -> Tensor:
    """Transform each image about its centre by a 2×2 matrix, with reflection at the edges."""
    # Where `affine_grid` measures, each side has a length of 2, whatever its number of pixels.
    height, width = images.shape[2:]
    aspect = torch.ones(2, 2, device=images.device)
    aspect[0, 1], aspect[1, 0] = height / width, width / height
    theta = F.pad(matrices * aspect, (0, 1))
    where = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(
        images.float(), where.float(), padding_mode="reflection", align_corners=False
    ).to(images.dtype)
