"""DCGAN: all-convolutional generator and discriminator (Radford, Metz, Chintala 2015)."""

import itertools

from torch import Tensor, nn

from ganscale.networks.layers import LEAKY_SLOPE, initialise_dcgan, normalise_spectrally


def _pyramid(resolution: int, width: int) -> tuple[int, list[int]]:
    """The smallest feature map's side, and the channels from it up to full resolution.

    The side is 7 for 28 pixels and 4 otherwise; channels halve as the side doubles, from at most
    8 times `width`, so that 64 pixels at width 64 are the sizes that the PyTorch tutorial uses.
    """
    base = 7 if resolution % 7 == 0 else 4
    stages = (resolution // base).bit_length() - 1
    if stages < 1 or resolution != base << stages:
        raise ValueError(f"resolution {resolution} is neither 4 nor 7 times a power of two")
    return base, [width * min(2**i, 8) for i in reversed(range(stages))]


class DCGANGenerator(nn.Module):
    """Latents (N, latent_dim) to images (N, C, H, W) in [-1, 1]."""

    def __init__(
        self,
        latent_dim: int,
        image_shape: tuple[int, int, int],
        width: int = 64,
        norm: str = "batch",
    ):
        super().__init__()
        channels, resolution, _ = image_shape
        base, widths = _pyramid(resolution, width)

        def block(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> nn.Module:
            # BatchNorm has a bias of its own.
            return nn.Sequential(
                nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, bias=norm == "none"),
                nn.BatchNorm2d(outputs) if norm == "batch" else nn.Identity(),
                nn.ReLU(inplace=True),
            )

        self.layers = nn.Sequential(
            block(latent_dim, widths[0], base, 1, 0),
            *(block(i, o, 4, 2, 1) for i, o in itertools.pairwise(widths)),
            nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1, bias=False),
            nn.Tanh(),
        )
        initialise_dcgan(self)

    def forward(self, latents: Tensor) -> Tensor:
        """Make one image for each latent."""
        images: Tensor = self.layers(latents[:, :, None, None])
        return images


class DCGANDiscriminator(nn.Module):
    """Images (N, C, H, W) to logits (N,); positive means real."""

    def __init__(self, image_shape: tuple[int, int, int], width: int = 64, norm: str = "batch"):
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

        self.layers = nn.Sequential(
            nn.Conv2d(channels, widths[0], 4, 2, 1, bias=False),  # the paper: no norm here
            nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
            *(block(i, o) for i, o in itertools.pairwise(widths)),
            nn.Conv2d(widths[-1], 1, base, 1, 0, bias=False),
        )
        initialise_dcgan(self)
        if norm == "spectral":
            normalise_spectrally(self)

    def forward(self, images: Tensor) -> Tensor:
        """Judge each image."""
        logits: Tensor = self.layers(images)
        return logits.flatten()
