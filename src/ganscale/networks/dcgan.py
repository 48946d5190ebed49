"""DCGAN: all-convolutional generator and discriminator (Radford, Metz, Chintala 2015)."""

import itertools
from math import prod
from typing import Literal

from torch import Tensor, nn

from ganscale.config.section import PositiveInt
from ganscale.networks.attention import attend_at
from ganscale.networks.conditioning import (
    ClassEmbedding,
    ClassProjection,
    Conditioned,
    norm_layer,
)
from ganscale.networks.layers import (
    LEAKY_SLOPE,
    SMALLEST,
    Discriminator,
    PyramidOptions,
    initialise_dcgan,
    keep_variance,
    normalise_spectrally,
    smallest_map,
    stages_of,
)
from ganscale.networks.registry import DISCRIMINATORS, GENERATORS

# The fewest feature maps of a discriminator, at any resolution: with fewer, no feature sees a whole
# image of 28 or 32 pixels, and only parts of it are judged.
FEWEST_MAPS = 4

Size = tuple[int, int]
"""Height and width in pixels."""


class DCGANGeneratorOptions(PyramidOptions):
    """The DCGAN generator: strided transposed convolutions, BatchNorm, ReLU, tanh."""

    width: PositiveInt = 64
    """Channels before the last layer; doubled each time the side is halved, up to a factor of 8."""
    norm: Literal["batch", "none"] = "batch"
    """Normalisation between layers."""


class DCGANDiscriminatorOptions(PyramidOptions):
    """The DCGAN discriminator: strided convolutions, BatchNorm, LeakyReLU, one logit."""

    width: PositiveInt = 64
    """Channels after the first layer; doubled each time the side is halved, up to a factor of 8."""
    norm: Literal["batch", "none", "spectral"] = "batch"
    """Normalisation between layers; use `none` with gradient penalties."""


def _pyramid(size: Size, width: int, fewest: int = 1) -> list[tuple[Size, int]]:
    """Return size and channels of `fewest` or more maps, from half of the image to 4 to 6 pixels.

    Channels double as the sides halve, up to 8 times `width`, so that 64 pixels at width 64 give
    the sizes that the PyTorch tutorial uses. For 28 pixels the sides are 14, 7 and 4.
    """
    smallest_map(*size)  # refuses other sizes
    sizes = [(size[0] // 2, size[1] // 2)]
    while len(sizes) < fewest or (min(sizes[-1]) + 1) // 2 >= SMALLEST:
        height, width_ = sizes[-1]
        sizes.append(((height + 1) // 2, (width_ + 1) // 2))
    return [(size, width * min(2**i, 8)) for i, size in enumerate(sizes)]


def _kernel(small: Size, large: Size) -> Size:
    """Return the kernel of a convolution of stride 2, padding 1: 4, or 3 between sides 4 and 7."""
    return 4 - (2 * small[0] - large[0]), 4 - (2 * small[1] - large[1])


@GENERATORS.register("dcgan", DCGANGeneratorOptions)
class DCGANGenerator(nn.Module):
    """Maps latents (N, latent_dim), and labels (N,), to images (N, C, H, W) in [-1, 1]."""

    def __init__(
        self,
        latent_dim: int,
        image_shape: tuple[int, int, int],
        width: int = 64,
        norm: str = "batch",
        attention: int | None = None,
        classes: int | None = None,
    ):
        super().__init__()
        channels, *size = image_shape
        maps = _pyramid((size[0], size[1]), width)[::-1]
        (start, first), (_, last) = maps[0], maps[-1]
        self.embedding = ClassEmbedding(latent_dim, classes if norm == "none" else None)

        def block(inputs: int, outputs: int, kernel: Size, stride: int, padding: int) -> nn.Module:
            # BatchNorm has a bias of its own.
            return Conditioned(
                nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, bias=norm == "none"),
                norm_layer(norm, outputs, classes),
                nn.ReLU(inplace=True),
            )

        layers = [
            block(self.embedding.width, first, start, 1, 0),
            *attend_at(min(start), attention, first),
        ]
        for (small, inputs), (large, outputs) in itertools.pairwise(maps):
            layers.append(block(inputs, outputs, _kernel(small, large), 2, 1))
            layers += attend_at(min(large), attention, outputs)
        pixels = nn.ConvTranspose2d(last, channels, 4, 2, 1, bias=False)
        self.layers = Conditioned(*layers, pixels, nn.Tanh())
        initialise_dcgan(self)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Generate one image for each latent."""
        features = self.embedding(latents, labels)[:, :, None, None]
        images: Tensor = self.layers(features, labels)
        return images


@DISCRIMINATORS.register("dcgan", DCGANDiscriminatorOptions)
class DCGANDiscriminator(Discriminator):
    """Maps images (N, C, H, W), and labels (N,), to logits (N,); positive means real."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        width: int = 64,
        norm: str = "batch",
        attention: int | None = None,
        classes: int | None = None,
    ):
        super().__init__()
        channels, *size = image_shape
        maps = _pyramid((size[0], size[1]), width, FEWEST_MAPS)
        (half, first), (base, last) = maps[0], maps[-1]

        def block(inputs: int, outputs: int, kernel: Size) -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, kernel, 2, 1, bias=norm != "batch"),
                nn.BatchNorm2d(outputs) if norm == "batch" else nn.Identity(),
                nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
            )

        layers: list[nn.Module] = [
            nn.Conv2d(channels, first, 4, 2, 1, bias=False),  # the paper: no norm here
            nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
            *attend_at(min(half), attention, first),
        ]
        for (large, inputs), (small, outputs) in itertools.pairwise(maps):
            layers.append(block(inputs, outputs, _kernel(small, large)))
            layers += attend_at(min(small), attention, outputs)
        self.layers = nn.Sequential(*layers)
        self.logit = nn.Conv2d(last, 1, base, 1, 0, bias=False)
        # It sees all positions of the last map, as the logit does, and not their average.
        self.projection = ClassProjection(last * prod(base), classes)
        initialise_dcgan(self)
        if norm == "none":
            keep_variance(self)
        if norm == "spectral":
            normalise_spectrally(self)

    def stages(self) -> list[list[nn.Module]]:
        """Return the convolutions that halve the image, each with what follows it."""
        pixels, *rest = self.layers
        first, *others = stages_of(nn.Sequential(*rest), nn.Sequential)
        return [[pixels, *first], *others]

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Judge each image."""
        features = self.layers(images)
        by_class = self.projection(features.flatten(1), labels)
        logits: Tensor = self.logit(features).flatten() + by_class
        return logits
