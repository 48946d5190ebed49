"""The two players, each with its network and optimizer, and the latent distribution."""

from typing import Literal

from pydantic import Field

from ganscale.config.networks import (
    DISCRIMINATOR,
    GENERATOR,
    DiscriminatorNetwork,
    GeneratorNetwork,
)
from ganscale.config.schedulable import Beta, LearningRate
from ganscale.config.section import NonNegativeInt, PositiveFloat, PositiveInt, Section


class Latent(Section):
    """The latent vectors that the generator turns into images."""

    dim: PositiveInt = 100
    """Number of components of a latent vector."""
    distribution: Literal["normal", "uniform"] = "normal"
    """Distribution of each component: standard normal, or uniform on [-1, 1]."""


class Adam(Section):
    """The Adam optimizer of one player."""

    lr: LearningRate = 2e-4
    """Learning rate."""
    betas: tuple[Beta, Beta] = (0.5, 0.999)
    """Decay rates of the first and second moments."""
    eps: PositiveFloat = 1e-8
    """Constant added to the square root of the second moment for numerical stability."""


class Generator(Section):
    """The player that generates images."""

    network: GeneratorNetwork = Field(default_factory=GENERATOR.section)
    """Network that turns a latent vector into an image."""
    optimizer: Adam = Adam()
    clip_norm: PositiveFloat | None = None
    """Largest L2 norm of the gradient; empty for no clipping."""


class DiscriminatorPlayer(Section):
    """The player that tells real images from generated ones."""

    network: DiscriminatorNetwork = Field(default_factory=DISCRIMINATOR.section)
    """Network that turns an image into a logit."""
    optimizer: Adam = Adam()
    clip_norm: PositiveFloat | None = None
    """Largest L2 norm of the gradient; empty for no clipping."""
    steps: PositiveInt = 1
    """Discriminator updates for each generator update."""
    freeze: NonNegativeInt = 0
    """Stages of the network, from the image on, whose weights stay those of `init_from` (FreezeD):
    hidden layers of `mlp`, convolutions of `dcgan`, blocks of `resnet`, sides of `r3gan`."""
