"""R3GAN's networks: a modern ResNet without any normalisation (Huang et al. 2024).

Blocks are inverted bottlenecks with grouped 3×3 convolutions. A smooth resampling filter and a 1×1
convolution change the side. The first weights keep the variance independent of the depth (Fixup,
Zhang et al. 2019). The generator and the discriminator mirror each other.
"""

import itertools
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganscale.config import NetworkOptions
from ganscale.config.section import PositiveInt
from ganscale.networks.conditioning import ClassEmbedding
from ganscale.networks.grouped_convolution import GroupedConv2d, grouped_conv2d
from ganscale.networks.layers import (
    LEAKY_SLOPE,
    SMALLEST,
    Discriminator,
    about_size,
    doublings_to,
    stages_of,
)
from ganscale.networks.registry import DISCRIMINATORS, GENERATORS

EXPANSION = 2  # channels inside a block, as a multiple of those outside
# [1, 2, 1] widened by [1, 1]: the authors' resampling filter, along either axis.
FILTER = (1 / 8, 3 / 8, 3 / 8, 1 / 8)


class R3GANOptions(NetworkOptions):
    """R3GAN's network, the same on both sides: modern residual blocks, no normalisation."""

    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (768, 768, 768, 768)
    """Channels of each stage: one number for each size, from the smallest map, whose smaller side
    is 4 to 7 pixels, to the image: 4, 8, 16 and 32 for 32 pixels."""
    blocks: PositiveInt = 2
    """Number of residual blocks in each stage."""
    group: PositiveInt = 16
    """Channels per group in the 3×3 convolutions; twice each width must be a multiple of it."""

    @model_validator(mode="after")
    def _check_groups(self) -> "R3GANOptions":
        for width in self.widths:
            if EXPANSION * width % self.group:
                raise ValueError(
                    f"widths={list(self.widths)}: twice {width} is not a multiple of "
                    f"group={self.group}"
                )
        return self

    def about_resolution(self, height: int, width: int) -> str | None:
        """Return why the network does not support images of this size in pixels, or None."""
        if _smallest_map((height, width), len(self.widths)) is not None:
            return None
        if (doublings := doublings_to(height, width)) is None:
            return about_size(height, width)
        made = SMALLEST << (len(self.widths) - 1)
        return (
            f"with {len(self.widths)} widths makes images with a smaller side of {made} to "
            f"{made // SMALLEST * (2 * SMALLEST - 1)} pixels; give {doublings + 1} widths, or pack "
            "at such a size"
        )


def _smallest_map(size: tuple[int, int], stages: int) -> tuple[int, int] | None:
    """Return height and width of the first of so many stages, or None if its size is impossible."""
    step = 1 << (stages - 1)
    height, width = size[0] // step, size[1] // step
    fits = (height * step, width * step) == size and SMALLEST <= min(height, width) < 2 * SMALLEST
    return (height, width) if fits else None


def _base(image_shape: tuple[int, int, int], widths: Sequence[int]) -> tuple[int, int]:
    """Return height and width of the smallest feature map; raise `ValueError` if there is none."""
    base = _smallest_map(image_shape[1:], len(widths))
    if base is None:
        raise ValueError(
            f"{len(widths)} widths do not make images of {image_shape[1]}×{image_shape[2]} pixels"
        )
    return base


def _initialised(layer: nn.Conv2d | nn.Linear, gain: float = 1.0) -> nn.Module:
    """Draw weights of variance gain²/fan-in, set biases to zero, and return the layer."""
    fan_in = layer.weight[0].numel()
    nn.init.normal_(layer.weight, 0.0, gain * fan_in**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """Adds a residual to features (N, C, H, W): 1×1 up, grouped 3×3, 1×1 down.

    `depth` is the number of blocks in the network: the residuals start at zero, and the more of
    them there are, the smaller are the weights that lead to them.
    """

    def __init__(self, channels: int, group: int, depth: int):
        super().__init__()
        inner = EXPANSION * channels
        relu = nn.init.calculate_gain("leaky_relu", LEAKY_SLOPE)
        # Fixup: L to the power -1 / (2m - 2), m = 3 layers a block.
        gain = relu * depth**-0.25
        self.layers = nn.Sequential(
            _initialised(nn.Conv2d(channels, inner, 1), gain),
            nn.LeakyReLU(LEAKY_SLOPE),
            _initialised(GroupedConv2d(inner, inner, 3, groups=inner // group, padding=1), gain),
            nn.LeakyReLU(LEAKY_SLOPE),
            _initialised(nn.Conv2d(inner, channels, 1, bias=False), 0.0),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Add the residual."""
        summed: Tensor = features + self.layers(features)
        return summed


class Resampler(nn.Module):
    """Filters features (N, C, H, W) to half the side, or to twice the side by the transpose.

    Zeros lie beyond the edges, as in the authors' code. It computes in float32, since CPUs have no
    fast depthwise convolution in a lower precision.
    """

    kernel: Tensor

    def __init__(self, doubles: bool):
        super().__init__()
        self.doubles = doubles
        row = torch.tensor(FILTER)
        # Doubling puts each pixel where there were four: the sum over the kernel is 4.
        self.register_buffer("kernel", torch.outer(row, row)[None, None] * (4 if doubles else 1))

    def forward(self, features: Tensor) -> Tensor:
        """Double or halve the side."""
        if not torch.is_autocast_enabled(features.device.type):
            return self._filter(features)
        with torch.autocast(features.device.type, enabled=False):
            return self._filter(features.float()).to(features.dtype)

    def _filter(self, features: Tensor) -> Tensor:
        channels = features.shape[1]
        kernel = self.kernel.to(features.dtype).expand(channels, 1, -1, -1)
        return grouped_conv2d(
            features, kernel, groups=channels, stride=2, padding=1, transposed=self.doubles
        )


class Transition(nn.Module):
    """Maps features (N, inputs, H, W) to (N, outputs, …) at twice the side, or at half of it."""

    def __init__(self, inputs: int, outputs: int, doubles: bool):
        super().__init__()
        self.doubles = doubles
        self.resample = Resampler(doubles)
        self.match = (
            _initialised(nn.Conv2d(inputs, outputs, 1, bias=False))
            if inputs != outputs
            else nn.Identity()
        )

    def forward(self, features: Tensor) -> Tensor:
        """Resample, convolving on the smaller side."""
        if self.doubles:
            doubled: Tensor = self.resample(self.match(features))
            return doubled
        halved: Tensor = self.match(self.resample(features))
        return halved


def _stage(width: int, blocks: int, group: int, depth: int) -> list[nn.Module]:
    return [Block(width, group, depth) for _ in range(blocks)]


@GENERATORS.register("r3gan", R3GANOptions)
class R3GANGenerator(nn.Module):
    """Maps latents (N, latent_dim), and labels (N,) if conditional, to images (N, C, H, W).

    Pixels are -1 … 1 as everywhere, but they are not bounded: no tanh bends what is near the ends.
    """

    def __init__(
        self,
        latent_dim: int,
        image_shape: tuple[int, int, int],
        widths: Sequence[int] = (768, 768, 768, 768),
        blocks: int = 2,
        group: int = 16,
        classes: int | None = None,
    ):
        super().__init__()
        depth = blocks * len(widths)
        self.embedding = ClassEmbedding(latent_dim, classes)
        if self.embedding.table is not None:
            # A matrix that multiplies a one-hot class: its fan-in is the number of classes.
            nn.init.normal_(
                self.embedding.table.weight, 0.0, self.embedding.table.num_embeddings**-0.5
            )
        self.basis = nn.Parameter(torch.randn(widths[0], *_base(image_shape, widths)))
        self.modulation = _initialised(nn.Linear(self.embedding.width, widths[0], bias=False))
        layers = _stage(widths[0], blocks, group, depth)
        for inputs, outputs in itertools.pairwise(widths):
            layers += [
                Transition(inputs, outputs, doubles=True),
                *_stage(outputs, blocks, group, depth),
            ]
        self.layers = nn.Sequential(*layers)
        self.pixels = _initialised(nn.Conv2d(widths[-1], image_shape[0], 1, bias=False))

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Generate one image for each latent."""
        modulation = self.modulation(self.embedding(latents, labels))
        images: Tensor = self.pixels(self.layers(self.basis * modulation[:, :, None, None]))
        return images


@DISCRIMINATORS.register("r3gan", R3GANOptions)
class R3GANDiscriminator(Discriminator):
    """Maps images (N, C, H, W), and labels (N,), to logits (N,); positive means real."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        widths: Sequence[int] = (768, 768, 768, 768),
        blocks: int = 2,
        group: int = 16,
        classes: int | None = None,
    ):
        super().__init__()
        depth = blocks * len(widths)
        falling = list(reversed(widths))
        self.pixels = _initialised(nn.Conv2d(image_shape[0], falling[0], 1, bias=False))
        layers = _stage(falling[0], blocks, group, depth)
        for inputs, outputs in itertools.pairwise(falling):
            layers += [
                Transition(inputs, outputs, doubles=False),
                *_stage(outputs, blocks, group, depth),
            ]
        last = falling[-1]
        self.layers = nn.Sequential(*layers)
        base = _base(image_shape, widths)
        self.basis = _initialised(GroupedConv2d(last, last, base, groups=last, bias=False))
        self.logit = _initialised(nn.Linear(last, last if classes else 1, bias=False))
        self.table = nn.Embedding(classes, last) if classes else None
        if self.table is not None:
            nn.init.normal_(self.table.weight, 0.0, self.table.weight.numel() ** -0.5)

    def stages(self) -> list[list[nn.Module]]:
        """Return the blocks of each side, with what leads to it from the side before."""
        first, *others = stages_of(self.layers, Transition)
        return [[self.pixels, *first], *others]

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Judge each image; in a conditional game only by the direction of its class."""
        features = self.basis(self.layers(self.pixels(images))).flatten(1)
        judged: Tensor = self.logit(features)
        if self.table is not None:
            judged = judged * self.table(labels)
        return judged.sum(1)
