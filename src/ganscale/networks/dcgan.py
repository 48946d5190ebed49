"""DCGAN: all-convolutional generator and discriminator (Radford, Metz, Chintala 2015)."""

import itertools

from torch import Tensor, nn

from ganscale.networks.attention import attend_at
from ganscale.networks.conditioning import (
    ClassEmbedding,
    ClassProjection,
    Conditioned,
    norm_layer,
)
from ganscale.networks.layers import (
    LEAKY_SLOPE,
    base_side,
    initialise_dcgan,
    normalise_spectrally,
)


def _pyramid(resolution: int, width: int) -> tuple[int, list[int]]:
    """The smallest feature map's side, and the channels from it up to full resolution.

    Channels halve as the side doubles, from at most 8 times `width`, so that 64 pixels at width
    64 are the sizes that the PyTorch tutorial uses.
    """
    base, doublings = base_side(resolution)
    return base, [width * min(2**i, 8) for i in reversed(range(doublings))]


class DCGANGenerator(nn.Module):
    """Latents (N, latent_dim), labels (N,) if conditional, to images (N, C, H, W) in [-1, 1]."""

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
        channels, resolution, _ = image_shape
        side, widths = _pyramid(resolution, width)
        self.embedding = ClassEmbedding(latent_dim, classes if norm == "none" else None)

        def block(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> nn.Module:
            # BatchNorm has a bias of its own.
            return Conditioned(
                nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, bias=norm == "none"),
                norm_layer(norm, outputs, classes),
                nn.ReLU(inplace=True),
            )

        layers = [block(self.embedding.width, widths[0], side, 1, 0)]
        layers += attend_at(side, attention, widths[0])
        for inputs, outputs in itertools.pairwise(widths):
            side *= 2
            layers += [block(inputs, outputs, 4, 2, 1), *attend_at(side, attention, outputs)]
        last = nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1, bias=False)
        self.layers = Conditioned(*layers, last, nn.Tanh())
        initialise_dcgan(self)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make one image for each latent."""
        features = self.embedding(latents, labels)[:, :, None, None]
        images: Tensor = self.layers(features, labels)
        return images


class DCGANDiscriminator(nn.Module):
    """Images (N, C, H, W), and labels (N,) if conditional, to logits (N,); positive means real."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        width: int = 64,
        norm: str = "batch",
        attention: int | None = None,
        classes: int | None = None,
    ):
        super().__init__()
        channels, resolution, _ = image_shape
        base, widths = _pyramid(resolution, width)
        widths.reverse()

        def block(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 4, 2, 1, bias=norm != "batch"),
                nn.BatchNorm2d(outputs) if norm == "batch" else nn.Identity(),
                nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
            )

        side = resolution // 2
        layers: list[nn.Module] = [
            nn.Conv2d(channels, widths[0], 4, 2, 1, bias=False),  # the paper: no norm here
            nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
            *attend_at(side, attention, widths[0]),
        ]
        for inputs, outputs in itertools.pairwise(widths):
            side //= 2
            layers += [block(inputs, outputs), *attend_at(side, attention, outputs)]
        self.layers = nn.Sequential(*layers)
        self.logit = nn.Conv2d(widths[-1], 1, base, 1, 0, bias=False)
        # All positions: the last map is too shallow to know shapes where it is averaged.
        self.projection = ClassProjection(widths[-1] * base**2, classes)
        initialise_dcgan(self)
        if norm == "spectral":
            normalise_spectrally(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Judge each image."""
        features = self.layers(images)
        by_class = self.projection(features.flatten(1), labels)
        logits: Tensor = self.logit(features).flatten() + by_class
        return logits
