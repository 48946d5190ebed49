"""The residual networks of WGAN-GP and SNGAN (Gulrajani et al. 2017; Miyato et al. 2018).

At 32 pixels the generator has three blocks that double the side, and the discriminator has two that
halve it and two that keep it, as in SNGAN's table 4. Each doubling beyond adds a block with half
the channels to both.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ganscale.config.section import PositiveInt
from ganscale.networks.attention import attend_at
from ganscale.networks.conditioning import (
    ClassEmbedding,
    ClassProjection,
    Conditioned,
    TakesLabels,
    norm_layer,
)
from ganscale.networks.layers import (
    Discriminator,
    PyramidOptions,
    initialise_residual,
    normalise_spectrally,
    smallest_map,
    stages_of,
)
from ganscale.networks.registry import DISCRIMINATORS, GENERATORS

WIDEST_SIDE = 32  # pixels: up to this side all maps of a generator have the full width
NARROWEST = 8

Resample = Callable[[Tensor], Tensor]
double: Resample = partial(F.interpolate, scale_factor=2.0, mode="nearest")
halve: Resample = partial(F.avg_pool2d, kernel_size=2)


class ResNetGeneratorOptions(PyramidOptions):
    """The residual generator of SNGAN and WGAN-GP: BatchNorm, ReLU, nearest neighbours."""

    width: PositiveInt = 256
    """Channels of the blocks up to 32 pixels on the smaller side; halved with each doubling beyond
    that."""
    norm: Literal["batch", "none"] = "batch"
    """Normalisation before each convolution."""


class ResNetDiscriminatorOptions(PyramidOptions):
    """The residual discriminator of SNGAN and WGAN-GP: ReLU, average pooling, no BatchNorm."""

    width: PositiveInt = 128
    """Channels of the blocks up to 32 pixels on the smaller side; halved with each doubling beyond
    that."""
    norm: Literal["none", "spectral"] = "spectral"
    """Normalisation of the weights: `spectral` keeps the largest singular value of each at 1; use
    `none` with gradient penalties."""


class UpBlock(TakesLabels):
    """Maps features (N, inputs, H, W) to (N, outputs, 2H, 2W)."""

    def __init__(self, inputs: int, outputs: int, norm: str, classes: int | None):
        super().__init__()
        self.norm1 = Conditioned(norm_layer(norm, inputs, classes))
        self.norm2 = Conditioned(norm_layer(norm, outputs, classes))
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """Normalise, rectify, double, convolve; again without doubling; add the shortcut."""
        residual = self.conv1(double(F.relu(self.norm1(features, labels))))
        residual = self.conv2(F.relu(self.norm2(residual, labels)))
        # A 1×1 convolution and a nearest neighbour commute: the smaller map first.
        doubled: Tensor = residual + double(self.shortcut(features))
        return doubled


class DownBlock(nn.Module):
    """Maps features (N, inputs, H, W) to (N, outputs, H/2, W/2), or to the same size unless `down`.

    The `first` block of a discriminator sees pixels, which a ReLU would cut off.
    """

    def __init__(self, inputs: int, outputs: int, down: bool, first: bool = False):
        super().__init__()
        self.first = first
        self.resample: Resample = halve if down else nn.Identity()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        changed = down or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if changed else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Rectify and convolve twice, then halve; add the shortcut."""
        residual = self.conv1(features if self.first else F.relu(features))
        residual = self.resample(self.conv2(F.relu(residual)))
        halved: Tensor = residual + self.shortcut(self.resample(features))
        return halved


@GENERATORS.register("resnet", ResNetGeneratorOptions)
class ResNetGenerator(nn.Module):
    """Maps latents (N, latent_dim), and labels (N,), to images (N, C, H, W) in [-1, 1]."""

    def __init__(
        self,
        latent_dim: int,
        image_shape: tuple[int, int, int],
        width: int = 256,
        norm: str = "batch",
        attention: int | None = None,
        classes: int | None = None,
    ):
        super().__init__()
        height, across, doublings = smallest_map(*image_shape[1:])
        self.start = (height, across)
        self.embedding = ClassEmbedding(latent_dim, classes if norm == "none" else None)
        self.first = nn.Linear(self.embedding.width, width * height * across)
        side, inputs = min(self.start), width
        blocks = attend_at(side, attention, width)
        for _ in range(doublings):
            side *= 2
            outputs = max(NARROWEST, width * WIDEST_SIDE // max(side, WIDEST_SIDE))
            blocks += [
                UpBlock(inputs, outputs, norm, classes),
                *attend_at(side, attention, outputs),
            ]
            inputs = outputs
        self.blocks = Conditioned(
            *blocks,
            norm_layer(norm, inputs, classes),
            nn.ReLU(),
            nn.Conv2d(inputs, image_shape[0], 3, padding=1),
            nn.Tanh(),
        )
        initialise_residual(self)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Generate one image for each latent."""
        features = self.first(self.embedding(latents, labels))
        features = features.unflatten(1, (-1, *self.start))
        images: Tensor = self.blocks(features, labels)
        return images


@DISCRIMINATORS.register("resnet", ResNetDiscriminatorOptions)
class ResNetDiscriminator(Discriminator):
    """Maps images (N, C, H, W), and labels (N,), to logits (N,); positive means real."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        width: int = 128,
        norm: str = "spectral",
        attention: int | None = None,
        classes: int | None = None,
    ):
        super().__init__()
        smallest_map(*image_shape[1:])  # refuses other sizes
        inputs, side = image_shape[0], min(image_shape[1:])
        blocks: list[nn.Module] = []
        while side > 8:
            outputs = max(NARROWEST, width * WIDEST_SIDE // max(side, WIDEST_SIDE))
            blocks.append(DownBlock(inputs, outputs, down=True, first=not blocks))
            side //= 2
            blocks += attend_at(side, attention, outputs)
            inputs = outputs
        first = not blocks
        blocks += [DownBlock(inputs, width, False, first), DownBlock(width, width, down=False)]
        self.blocks = nn.Sequential(*blocks)
        self.sums = norm == "spectral"
        self.logit = nn.Linear(width, 1)
        self.projection = ClassProjection(width, classes)
        initialise_residual(self)
        if norm == "spectral":
            normalise_spectrally(self)

    def stages(self) -> list[list[nn.Module]]:
        """Return the residual blocks, each with the self-attention that follows it."""
        return stages_of(self.blocks, DownBlock)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Judge each image by its features over all positions: their sum in SNGAN, else mean."""
        features = F.relu(self.blocks(images))
        features = features.sum((2, 3)) if self.sums else features.mean((2, 3))
        logits: Tensor = self.logit(features).squeeze(1) + self.projection(features, labels)
        return logits
